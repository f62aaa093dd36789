/** Everything that the broker's mails say to a sender, in every language that there is (S11, T1, T2): one catalogue, so that no text is forgotten. */

/** As a declaration names it (RFC 5646). */
export const LANGUAGES = ["en", "ja"] as const;
export type Language = (typeof LANGUAGES)[number];

/** Which mail it is. `expired`: the key was never given out. `unconfirmed`: it was, and nobody confirmed that the letter was opened. */
export type ReportKind = "opened" | "delayed" | "expired" | "unconfirmed" | "recalled";

export type Label =
  | "recipient"
  | "messageId"
  | "declaredAt"
  | "releasedAt"
  | "confirmedAt"
  | "delayedAt"
  | "expiresAt"
  | "endedAt"
  | "evidence";

/** One language. Lines keep within 78 columns. */
export interface Words {
  /** Beside the broker's address. */
  readonly from: string;
  /** `{recipient}` stands for the address. */
  readonly subjects: Readonly<Record<ReportKind, string>>;
  /** The first line. */
  readonly openings: Readonly<Record<ReportKind, string>>;
  readonly labels: Readonly<Record<Label, string>>;
  /** Instead of a time where the key was never given out. */
  readonly never: string;
  readonly explanations: Readonly<Record<ReportKind, readonly string[]>>;
  /**
   * What is said otherwise of a letter whose key travels inside it: the broker never had the key, and who reads such a letter in a mail
   * client tells nobody.
   */
  readonly enclosed: {
    readonly subjects: Partial<Words["subjects"]>;
    readonly openings: Partial<Words["openings"]>;
    readonly labels: Partial<Words["labels"]>;
    readonly explanations: Words["explanations"];
  };
}

const en: Words = {
  from: "Registered mail",
  subjects: {
    opened: "Opened: registered letter to {recipient}",
    delayed: "Not opened yet: registered letter to {recipient}",
    expired: "Expired: registered letter to {recipient}",
    unconfirmed: "Expired, opening not confirmed: registered letter to {recipient}",
    recalled: "Recalled: registered letter to {recipient}",
  },
  openings: {
    opened: "Your registered letter was opened.",
    delayed: "Your registered letter has not been opened yet.",
    expired: "Your registered letter was not opened. Its time is over.",
    unconfirmed: "Nobody has confirmed that your registered letter was opened. Its time is over.",
    recalled: "Your registered letter was recalled before its key was given out.",
  },
  labels: {
    recipient: "Recipient",
    messageId: "Message-ID",
    declaredAt: "Registered",
    releasedAt: "Key given out",
    confirmedAt: "Opened",
    delayedAt: "Not opened by",
    expiresAt: "Expiry",
    endedAt: "Key erased",
    evidence: "Evidence",
  },
  never: "never",
  explanations: {
    opened: [
      "The recipient's gateway has opened and verified the letter and filed it in the",
      "recipient's mailbox, and the broker has erased its key. Attached are the broker's",
      "signed statements (evidence.p7m, released.p7m) and the receipt that the recipient's",
      "gateway signed (recipient-receipt.p7m). They verify without the broker:",
    ],
    delayed: [
      "The letter can still be opened until its expiry; then you get a receipt. This is the",
      "only reminder. Attached is the broker's signed statement (evidence.p7m). It verifies",
      "without the broker:",
    ],
    expired: [
      "The key was never given out, and the broker has erased it: nobody has read the letter,",
      "and nobody can open it any more. To reach the recipient, send it again. Attached is the",
      "broker's signed statement (evidence.p7m). It verifies without the broker:",
    ],
    unconfirmed: [
      "The key was given out to the recipient's gateway, but no confirmation came. Whether the",
      "letter was read is not known. The broker has erased the key. Attached are the broker's",
      "signed statements (evidence.p7m, released.p7m). They verify without the broker:",
    ],
    recalled: [
      "The key was never given out, and the broker has erased it: nobody has read the letter,",
      "and nobody can open it any more. Attached is the broker's signed statement",
      "(evidence.p7m). It verifies without the broker:",
    ],
  },
  enclosed: {
    subjects: {
      delayed: "Opening not confirmed yet: registered letter to {recipient}",
      expired: "Expired, opening not confirmed: registered letter to {recipient}",
    },
    openings: {
      delayed: "Nobody has confirmed yet that your registered letter was opened.",
      expired: "Nobody has confirmed that your registered letter was opened. Its time is over.",
      recalled: "Your registered letter was recalled before its ticket was presented.",
    },
    labels: { releasedAt: "Ticket presented", delayedAt: "Not confirmed by", endedAt: "Ended" },
    explanations: {
      opened: [
        "The recipient's gateway has opened and verified the letter and filed it in the",
        "recipient's mailbox. Its key travels inside it, sealed to the recipient: who has a copy",
        "and the recipient's private key can open it again. Attached are the broker's signed",
        "statements (evidence.p7m, released.p7m) and the receipt that the recipient's gateway",
        "signed (recipient-receipt.p7m). They verify without the broker:",
      ],
      delayed: [
        "The letter's key travels inside it: a mail client can have opened it and tells nobody.",
        "If a gateway opens it before its expiry, you get a receipt. This is the only reminder.",
        "Attached is the broker's signed statement (evidence.p7m). It verifies without the",
        "broker:",
      ],
      expired: [
        "The letter's key travels inside it: a mail client can have opened it and tells nobody.",
        "Whether it was read is not known, and it can still be read. Attached is the broker's",
        "signed statement (evidence.p7m). It verifies without the broker:",
      ],
      unconfirmed: [
        "The recipient's gateway presented the letter's ticket, but no confirmation came. Whether",
        "the letter was read is not known, and it can still be read: its key travels inside it.",
        "Attached are the broker's signed statements (evidence.p7m, released.p7m). They verify",
        "without the broker:",
      ],
      recalled: [
        "No gateway opens the letter from now on. But its key travels inside it: a mail client",
        "can have opened it, and still can. Attached is the broker's signed statement",
        "(evidence.p7m). It verifies without the broker:",
      ],
    },
  },
};

const ja: Words = {
  from: "書留メール",
  subjects: {
    opened: "開封されました: {recipient} 宛の書留メール",
    delayed: "まだ開封されていません: {recipient} 宛の書留メール",
    expired: "期限切れ: {recipient} 宛の書留メール",
    unconfirmed: "期限切れ（開封の確認なし）: {recipient} 宛の書留メール",
    recalled: "取り消しました: {recipient} 宛の書留メール",
  },
  openings: {
    opened: "書留メールが開封されました。",
    delayed: "書留メールはまだ開封されていません。",
    expired: "書留メールは開封されないまま期限が切れました。",
    unconfirmed: "書留メールは開封が確認されないまま期限が切れました。",
    recalled: "書留メールは、鍵が渡される前に取り消されました。",
  },
  labels: {
    recipient: "宛先",
    messageId: "Message-ID",
    declaredAt: "登録日時",
    releasedAt: "鍵の引き渡し",
    confirmedAt: "開封日時",
    delayedAt: "未開封の確認",
    expiresAt: "有効期限",
    endedAt: "鍵の消去",
    evidence: "証拠番号",
  },
  never: "なし",
  explanations: {
    opened: [
      "受信側のゲートウェイがメールを開封・検証し、受信者のメールボックスに格納しました。",
      "ブローカーは鍵を消去しました。ブローカーの署名付き証明（evidence.p7m、released.p7m）と、",
      "受信側ゲートウェイが署名した受領証（recipient-receipt.p7m）を添付します。",
      "これらはブローカーがなくても検証できます:",
    ],
    delayed: [
      "有効期限までは開封できます。開封されると受領通知が届きます。この通知は一度だけ送られます。",
      "ブローカーの署名付き証明（evidence.p7m）を添付します。ブローカーがなくても検証できます:",
    ],
    expired: [
      "鍵は一度も渡されず、ブローカーが消去しました。メールは誰にも読まれておらず、",
      "今後も開封できません。必要な場合は、もう一度送信してください。",
      "ブローカーの署名付き証明（evidence.p7m）を添付します。ブローカーがなくても検証できます:",
    ],
    unconfirmed: [
      "鍵は受信側のゲートウェイに渡されましたが、開封の確認は届きませんでした。",
      "メールが読まれたかどうかは分かりません。ブローカーは鍵を消去しました。",
      "ブローカーの署名付き証明（evidence.p7m、released.p7m）を添付します。",
      "これらはブローカーがなくても検証できます:",
    ],
    recalled: [
      "鍵は一度も渡されず、ブローカーが消去しました。メールは誰にも読まれておらず、",
      "今後も開封できません。",
      "ブローカーの署名付き証明（evidence.p7m）を添付します。ブローカーがなくても検証できます:",
    ],
  },
  enclosed: {
    subjects: {
      delayed: "開封の確認がまだありません: {recipient} 宛の書留メール",
      expired: "期限切れ（開封の確認なし）: {recipient} 宛の書留メール",
    },
    openings: {
      delayed: "書留メールの開封はまだ確認されていません。",
      expired: "書留メールは開封が確認されないまま期限が切れました。",
      recalled: "書留メールは、チケットが提示される前に取り消されました。",
    },
    labels: { releasedAt: "チケットの提示", delayedAt: "未確認の時点", endedAt: "終了日時" },
    explanations: {
      opened: [
        "受信側のゲートウェイがメールを開封・検証し、受信者のメールボックスに格納しました。",
        "鍵はメールの中に入っているため、写しと受信者の秘密鍵を持つ人は再び開封できます。",
        "ブローカーの署名付き証明（evidence.p7m、released.p7m）と、受信側ゲートウェイが署名した",
        "受領証（recipient-receipt.p7m）を添付します。これらはブローカーがなくても検証できます:",
      ],
      delayed: [
        "鍵はメールの中に入っているため、メールソフトで開封されても通知はありません。",
        "期限までにゲートウェイが開封すると受領通知が届きます。この通知は一度だけ送られます。",
        "ブローカーの署名付き証明（evidence.p7m）を添付します。ブローカーがなくても検証できます:",
      ],
      expired: [
        "鍵はメールの中に入っているため、メールソフトで開封されても通知はありません。",
        "メールが読まれたかどうかは分かりません。今後も読むことができます。",
        "ブローカーの署名付き証明（evidence.p7m）を添付します。ブローカーがなくても検証できます:",
      ],
      unconfirmed: [
        "受信側のゲートウェイがチケットを提示しましたが、開封の確認は届きませんでした。",
        "メールが読まれたかどうかは分かりません。鍵はメールの中にあり、今後も読むことができます。",
        "ブローカーの署名付き証明（evidence.p7m、released.p7m）を添付します。",
        "これらはブローカーがなくても検証できます:",
      ],
      recalled: [
        "今後、ゲートウェイはこのメールを開封しません。ただし鍵はメールの中に入っているため、",
        "メールソフトでは開封された可能性があり、今後も開封できます。",
        "ブローカーの署名付き証明（evidence.p7m）を添付します。ブローカーがなくても検証できます:",
      ],
    },
  },
};

const WORDS: Readonly<Record<Language, Words>> = { en, ja };

/** The words for a letter of this form. @param hold as the evidence says it */
export function wordsFor(language: Language, hold: string): Omit<Words, "enclosed"> {
  const { enclosed, ...words } = WORDS[language];
  if (hold !== "enclosed") return words;
  return {
    ...words,
    subjects: { ...words.subjects, ...enclosed.subjects },
    openings: { ...words.openings, ...enclosed.openings },
    labels: { ...words.labels, ...enclosed.labels },
    explanations: enclosed.explanations,
  };
}
