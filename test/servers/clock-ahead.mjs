// Loaded before a program (node --import): its clock is ahead of the right one by as many milliseconds as TEST_CLOCK_AHEAD says.
const ahead = Number(process.env["TEST_CLOCK_AHEAD"]);
const { Date: RightDate } = globalThis;

globalThis.Date = class extends RightDate {
  constructor(...parts) {
    if (parts.length === 0) super(RightDate.now() + ahead);
    else super(...parts);
  }

  static now() {
    return RightDate.now() + ahead;
  }
};
