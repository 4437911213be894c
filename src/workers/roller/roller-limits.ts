/** Bounds of one roller: what it remembers, what it gives numbers to, what it reads at once, and when it steps back. */

export interface RollerLimits {
  /** Events remembered exactly, about 32 bytes each: those of eight steps, or so many if that is less, ... */
  readonly identities: number;
  /** ... and in any case those of so many steps, and of a second at the pace of a backlog, up to so many. */
  readonly identitySteps: number;
  readonly identitiesOfSecond: number;
  /** Users whose numbers are remembered, at most: 22 bytes each. */
  readonly users: number;
  /** Event names that are rolled, and users that get a number. */
  readonly namesMax: number;
  readonly usersMax: number;
  /** Users of whom a filter tells without asking who is new: 16 bits each at most. */
  readonly filteredUsers: number;
  /** While another roller has committed within this time, ms, it is left to it. */
  readonly leaveToOthersMs: number;
  /** Rows that are read at once. */
  readonly windowRows: number;
}

export const ROLLER_LIMITS: RollerLimits = {
  // 20 000 events a second for more than half a minute: whoever sends an event again mostly does it by then.
  identities: 3 * 2 ** 18,
  // A second of a backlog must be there from the step of its first rows to that of its last ones, or all of it is loaded in each of its steps.
  identitySteps: 3,
  // More than two processors take in a second.
  identitiesOfSecond: 2_500_000,
  users: 1_500_000,
  namesMax: 10_000,
  usersMax: 2 ** 28,
  filteredUsers: 4_000_000,
  leaveToOthersMs: 8_000,
  windowRows: 250_000,
};
