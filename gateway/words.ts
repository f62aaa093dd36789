/** Everything the gateway says to people in a mail, in every language of the policy; no sentence stands anywhere else. */
import type { PolicyConfig } from "../config/schema-policy.ts";

export type Language = PolicyConfig["language"];

export interface Text {
  readonly subject: string;
  readonly lines: readonly string[];
}

/** A recipient with the reason. */
interface Reasoned {
  readonly recipient: string;
  readonly reason: string;
}

/** One sentence about a recipient of a recalled letter. */
export type RecallWord =
  | { readonly word: "recalled" | "recalled-enclosed" | "too-late"; readonly at: Date }
  | { readonly word: "withdrawn" | "gone" | "no-ticket" };

interface Words {
  /** The name in front of the gateway's own address. */
  readonly from: string;
  /** A recipient's copy was given up. */
  failed(what: Reasoned & { readonly sealed: boolean; readonly messageId: string }): Text;
  /** Some recipients could not be sealed to; the others' copies are on their way. */
  mixed(what: { readonly messageId: string; readonly left: readonly Reasoned[] }): Text;
  /** The broker was away, and the policy lets the letter go without it. */
  withoutBroker(what: { readonly messageId: string; readonly recipients: readonly string[] }): Text;
  /** The answer to a recall. */
  recall(what: { readonly messageId: string; readonly outcomes: readonly Reasoned[] }): Text;
  recallOutcome(outcome: RecallWord): string;
  /** The answer to a control mail that cannot be read. */
  control(what: { readonly reason: string }): Text;
  noSuchLetter(messageId: string): string;
  commandUnknown(): string;
  /** To the recipient, in place of a letter that its sender recalled. */
  recalledLetter(what: {
    readonly sender: string;
    readonly sentAt: string;
    readonly messageId: string;
    /** Its key travelled inside it. */
    readonly isEnclosed: boolean;
  }): Text;
}

const listed = (items: readonly Reasoned[]): string[] => items.flatMap(({ recipient, reason }) => [`  ${recipient}`, `    ${reason}`]);
const minute = (time: Date): string => `${time.toISOString().slice(0, 19).replace("T", " ")} UTC`;

const en: Words = {
  from: "Mail gateway",
  failed: ({ sealed, recipient, messageId, reason }) => ({
    subject: `Not delivered: ${sealed ? "registered letter" : "message"} to ${recipient}`,
    lines: [
      `Your ${sealed ? "registered letter" : "message"} could not be handed over.`,
      "",
      `Recipient:  ${recipient}`,
      `Message-ID: ${messageId}`,
      `Reason:     ${reason}`,
      "",
      ...(sealed
        ? [
            "The broker has been told to erase its key: nobody can open the copy that was",
            "on its way. No receipt will come for this recipient. Mend the reason and send",
            "the letter again.",
          ]
        : ["Mend the reason and send the message to this recipient again."]),
    ],
  }),
  mixed: ({ messageId, left }) => ({
    subject: `Not sent to everyone: registered letter to ${left.length === 1 ? left[0]?.recipient : `${left.length} recipients`}`,
    lines: [
      "Your registered letter is on its way, but not to these recipients:",
      "",
      ...listed(left),
      "",
      `Message-ID: ${messageId}`,
      "",
      "They got nothing, neither sealed nor in clear.",
    ],
  }),
  withoutBroker: ({ messageId, recipients }) => ({
    subject: "Sent without registration",
    lines: [
      "The broker could not be reached. As the policy of this gateway says, your letter",
      "was signed and encrypted for its recipients and sent without it:",
      "",
      ...recipients.map((recipient) => `  ${recipient}`),
      "",
      `Message-ID: ${messageId}`,
      "",
      "No receipt will come, and the letter cannot be recalled.",
    ],
  }),
  recall: ({ messageId, outcomes }) => ({
    subject: "Recall of a registered letter",
    lines: ["What became of your recall:", "", ...listed(outcomes), "", `Message-ID: ${messageId}`],
  }),
  recallOutcome: (outcome) => {
    switch (outcome.word) {
      case "recalled":
        return `recalled at ${minute(outcome.at)}, never released`;
      case "recalled-enclosed":
        return `recalled at ${minute(outcome.at)}: no gateway opens it any more, but its key is inside it, and a mail client may have`;
      case "too-late":
        return `too late, released at ${minute(outcome.at)}`;
      case "withdrawn":
        return "withdrawn before it left this gateway";
      case "gone":
        return "nothing to recall: the broker holds no key for it any more";
      case "no-ticket":
      default:
        return "cannot be recalled: it was sent without a session at the broker";
    }
  },
  control: ({ reason }) => ({
    subject: "Command not done",
    lines: [reason, "", "Write as Subject:", "", "  recall <message-id> [address]"],
  }),
  noSuchLetter: (messageId) => `No letter ${messageId} of yours was sent here.`,
  commandUnknown: () => "The Subject of your mail is no command.",
  recalledLetter: ({ sender, sentAt, messageId, isEnclosed }) => ({
    subject: "A registered letter was recalled",
    lines: [
      "A registered letter to you was recalled by its sender before it was opened.",
      isEnclosed
        ? "It is not opened any more. There is nothing to be done."
        : "Its key is erased; nobody can open it any more. There is nothing to be done.",
      "",
      `Sender:     ${sender}`,
      `Sent:       ${sentAt}`,
      `Message-ID: ${messageId}`,
    ],
  }),
};

const ja: Words = {
  from: "メールゲートウェイ",
  failed: ({ sealed, recipient, messageId, reason }) => ({
    subject: `配達できませんでした: ${recipient} 宛の${sealed ? "書留メール" : "メール"}`,
    lines: [
      `お送りになった${sealed ? "書留メール" : "メール"}を引き渡すことができませんでした。`,
      "",
      `宛先:       ${recipient}`,
      `Message-ID: ${messageId}`,
      `理由:       ${reason}`,
      "",
      ...(sealed
        ? [
            "鍵の消去をブローカーに依頼しました。途中にある写しは誰にも開くことができません。",
            "この宛先については受領証は届きません。原因を取り除いて、もう一度お送りください。",
          ]
        : ["原因を取り除いて、この宛先にもう一度お送りください。"]),
    ],
  }),
  mixed: ({ messageId, left }) => ({
    subject: `一部の宛先に送られていません: ${left.length === 1 ? left[0]?.recipient : `${left.length} 件`}`,
    lines: [
      "書留メールを発送しましたが、次の宛先には送っていません。",
      "",
      ...listed(left),
      "",
      `Message-ID: ${messageId}`,
      "",
      "これらの宛先には、暗号化したものも平文も、何も送られていません。",
    ],
  }),
  withoutBroker: ({ messageId, recipients }) => ({
    subject: "書留にせずに送信しました",
    lines: [
      "ブローカーに接続できませんでした。このゲートウェイの方針に従い、お送りになった",
      "メールに署名し、宛先ごとに暗号化して、書留にせずに送信しました。",
      "",
      ...recipients.map((recipient) => `  ${recipient}`),
      "",
      `Message-ID: ${messageId}`,
      "",
      "受領証は届きません。また、このメールは取り戻せません。",
    ],
  }),
  recall: ({ messageId, outcomes }) => ({
    subject: "書留メールの取戻し",
    lines: ["取戻しの結果は次のとおりです。", "", ...listed(outcomes), "", `Message-ID: ${messageId}`],
  }),
  recallOutcome: (outcome) => {
    switch (outcome.word) {
      case "recalled":
        return `${minute(outcome.at)} に取り戻しました。鍵は一度も渡されていません`;
      case "recalled-enclosed":
        return `${minute(outcome.at)} に取り戻しました。ただし鍵はメールの中にあり、メールソフトで開かれた可能性があります`;
      case "too-late":
        return `間に合いませんでした。鍵は ${minute(outcome.at)} に渡されています`;
      case "withdrawn":
        return "このゲートウェイを出る前に取り止めました";
      case "gone":
        return "取り戻すものがありません。ブローカーに鍵は残っていません";
      case "no-ticket":
      default:
        return "取り戻せません。ブローカーに登録せずに送られたメールです";
    }
  },
  control: ({ reason }) => ({
    subject: "指示を実行できませんでした",
    lines: [reason, "", "件名には次のように書いてください。", "", "  recall <message-id> [address]"],
  }),
  noSuchLetter: (messageId) => `${messageId} というメールは、ここからは送られていません。`,
  commandUnknown: () => "件名が指示として読み取れません。",
  recalledLetter: ({ sender, sentAt, messageId, isEnclosed }) => ({
    subject: "書留メールが取り戻されました",
    lines: [
      "あなた宛の書留メールは、開かれる前に差出人によって取り戻されました。",
      isEnclosed
        ? "このメールはもう開かれません。何もなさる必要はありません。"
        : "鍵は消去され、もう誰にも開くことができません。何もなさる必要はありません。",
      "",
      `差出人:     ${sender}`,
      `送信日時:   ${sentAt}`,
      `Message-ID: ${messageId}`,
    ],
  }),
};

export const WORDS: Readonly<Record<Language, Words>> = { en, ja };
