import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { createForgottenUsers, FORGOTTEN_MAX, ForgottenUsers } from '../../../src/shared/forgotten-users.js';
import { sipHash128 } from '../../../src/shared/sip-hash.js';

const userOf = (id: string) => ({ crc32: crc32(id), hash: sipHash128(Buffer.from(id)) });
const has = (users: ForgottenUsers, id: string): boolean => users.has(Buffer.from(id), 0, Buffer.byteLength(id));

test('those that were added are found, by every holder of the memory, and no others, up to the limit', () => {
  const memory = createForgottenUsers();
  const [main, encoder] = [new ForgottenUsers(memory), new ForgottenUsers(memory)];
  assert.equal(has(encoder, 'user 1'), false);
  for (let i = 0; i < FORGOTTEN_MAX; i += 1) assert.ok(main.add(userOf(`user ${i}`)));
  assert.equal(encoder.count, FORGOTTEN_MAX);
  assert.equal(main.add(userOf('one more')), false);
  assert.ok(main.add(userOf('user 7')), 'one that is there needs no room');
  assert.equal(encoder.count, FORGOTTEN_MAX);
  for (let i = 0; i < FORGOTTEN_MAX; i += 7) assert.ok(has(encoder, `user ${i}`), `user ${i}`);
  for (let i = 0; i < 20_000; i += 1) assert.equal(has(encoder, `other ${i}`), false);
  assert.equal(has(encoder, 'one more'), false);
});

test('a hash whose first word is empty is found too', () => {
  const users = new ForgottenUsers(createForgottenUsers());
  const hash = Buffer.from('00000000000000000000000000000001', 'hex');
  users.add({ crc32: 5, hash });
  users.add({ crc32: 5, hash });
  assert.equal(users.count, 1);
});
