import type { MetricsQuestion } from './parameters.js';

/**
 * A question about what is kept: whatever of its range lies before the edge (Unix seconds) is cut off, whether those rows have
 * been deleted yet or not. A range that lies before it as a whole is empty then, its `from` behind its `to`.
 *
 * A cursor belongs to the question as it was asked: the edge moves at midnight, and pages go on.
 */
export function clampQuestion(question: MetricsQuestion, edgeS: number | undefined): MetricsQuestion {
  const { from } = question;
  if (edgeS === undefined || (from !== undefined && from >= edgeS)) return question;
  return { ...question, from: edgeS, asked: { from } };
}
