import { randomInt } from 'node:crypto';
import { type EventRow, randomFrom } from './metrics-model.js';

/** Events and questions at random, near the edges of days, hours and minutes. */

export const MINUTE_MS = 60_000;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 86_400_000;
export const FIRST_DAY = Date.UTC(2026, 1, 26);
const DAYS = 4;
const NAMES = ['view', 'View', "a'b\\c", 'a\tb\n"', '💧', '\u0001'];
const CHANNELS = ['web', 'mobile', 'Ärger'];
export const GROUPINGS: readonly (readonly string[])[] = (() => {
  const dimensions = ['channel', 'hour', 'day', 'event_name'];
  const pairs = dimensions.flatMap((a) => dimensions.filter((b) => b !== a).map((b) => [a, b]));
  return [[], ...dimensions.map((dimension) => [dimension]), ...pairs];
})();

export class Dice {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = randomFrom(seed);
  }

  below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  chance(of: number): boolean {
    return this.#random() < of;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }

  /** Often at the very edge of a day, an hour or a minute. */
  instant(): number {
    const any = FIRST_DAY + this.below(DAYS * DAY_MS);
    if (this.chance(0.4)) return any;
    const size = this.pick([DAY_MS, HOUR_MS, HOUR_MS, MINUTE_MS, MINUTE_MS]);
    return Math.floor(any / size) * size + this.pick([0, 0, -1, 1, 999, 1000, 30_000, 59_999]);
  }

  events(count: number): EventRow[] {
    const rows: EventRow[] = [];
    while (rows.length < count) {
      const old = rows.length > 0 && this.chance(0.3) ? this.pick(rows) : undefined;
      const received_at = 1_772_000_000_000_000 + rows.length;
      const fresh = {
        event_id: `00000000-0000-4000-8000-${this.below(2 ** 40)
          .toString(16)
          .padStart(12, '0')}`,
        event_name: this.pick(NAMES),
        ts: this.instant(),
      };
      rows.push({
        ...fresh,
        channel: this.pick(CHANNELS),
        user_id: `user_${this.below(40)}`,
        received_at,
        // The same event once more, as it was or with another channel or user.
        ...(old === undefined ? {} : this.chance(0.5) ? old : { ...old, channel: this.pick(CHANNELS), received_at }),
      });
    }
    return rows;
  }

  question(): Record<string, string> {
    const [low = 0, high = 0] = [this.instant(), this.instant()]
      .map((ms) => Math.floor(ms / 1000))
      .toSorted((a, b) => a - b);
    const near = low + this.below(3 * 3600);
    const group_by = this.pick(GROUPINGS);
    return {
      event_name: this.chance(0.4) ? '*' : this.pick([...NAMES, 'never']),
      ...(this.chance(0.8) ? { from: `${low}` } : {}),
      ...(this.chance(0.8) ? { to: `${this.chance(0.3) ? near : high}` } : {}),
      ...(this.chance(0.4) ? { channel: this.pick([...CHANNELS, 'never']) } : {}),
      ...(group_by.length === 0 ? {} : { group_by: group_by.join(',') }),
    };
  }
}

export function seededDice(diagnostic: (message: string) => void): Dice {
  const seed = Number(process.env['TEST_SEED'] ?? randomInt(2 ** 31));
  diagnostic(`TEST_SEED=${seed}`);
  return new Dice(seed);
}
