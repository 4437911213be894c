import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerRate } from '../../../src/main/answer-rate.js';

function second(rate: AnswerRate, answers: number, open = 0): void {
  for (let i = 0; i < answers; i += 1) rate.answered();
  rate.secondOver(open);
}

test('the rate keeps its value over rest, however long', () => {
  const rate = new AnswerRate();
  second(rate, 5_000);
  for (let i = 0; i < 1_000; i += 1) second(rate, 0);
  assert.equal(rate.perSecond, 5_000);
});

test('the first second counts whole, and the rate follows what comes later', () => {
  const rate = new AnswerRate();
  assert.equal(rate.perSecond, 0);
  second(rate, 0);
  second(rate, 1_000);
  assert.equal(rate.perSecond, 1_000);
  for (let i = 0; i < 20; i += 1) second(rate, 3_000);
  assert.ok(Math.abs(rate.perSecond - 3_000) < 1);
});

test('a second in which requests waited and none was answered is no rest', () => {
  const rate = new AnswerRate();
  second(rate, 1_000);
  second(rate, 0, 1);
  assert.equal(rate.perSecond, 500);
});
