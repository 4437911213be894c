import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerMemory } from '../../../../src/workers/cells/answer-memory.js';

test('memory that came back is used again, once, by what fits into it', () => {
  const memory = new AnswerMemory();
  const first = memory.take(1000);
  assert.equal(first.length, 1000);
  memory.giveBack(first.buffer);
  const larger = memory.take(1001);
  assert.equal(larger.length, 1001);
  assert.notEqual(larger.buffer, first.buffer);
  const second = memory.take(900);
  assert.equal(second.buffer, first.buffer);
  assert.equal(second.length, 900);
  assert.notEqual(memory.take(900).buffer, first.buffer);
});
