import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import {
  type Answered,
  assertAccepted,
  assertRefused,
  DERIVED_ID,
  event,
  metrics,
  postBulk,
  postEvent,
  storedRows,
} from '../support/requests.js';
import { Service } from '../support/service.js';

/** api.md, "POST /events/bulk": its three forms, and what is taken of a body that is not all good. */

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.dispose());

const NDJSON = { 'content-type': 'application/x-ndjson' };

/** `count` valid events of different users, each as JSON text. */
const texts = (name: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => JSON.stringify(event({ event_name: name, user_id: `user_${i}` })));

async function total(eventName: string): Promise<number | undefined> {
  await service.settled();
  return (await metrics(service, { event_name: eventName })).body.total_events;
}

/** A 202 in the shape of the contract, its numbers in agreement. */
function assertTaken(answer: Answered, accepted: number, rejected: number): Answered {
  assert.equal(answer.status, 202, answer.text);
  assert.deepEqual(Object.keys(answer.body), ['accepted', 'rejected', 'event_ids', 'errors']);
  return assertCounts(answer, accepted, rejected);
}

function assertCounts(answer: Answered, accepted: number, rejected: number): Answered {
  const { event_ids: ids = [], errors = [] } = answer.body;
  assert.equal(answer.body.accepted, accepted, answer.text.slice(0, 500));
  assert.equal(answer.body.rejected, rejected);
  assert.equal(ids.length, accepted + rejected);
  assert.equal(ids.filter((id) => id === null).length, rejected);
  assert.equal(errors.length, Math.min(rejected, 100));
  const refused = ids.flatMap((id, index) => (id === null ? [index] : []));
  assert.deepEqual(
    errors.map(({ index }) => index),
    refused.slice(0, 100),
  );
  for (const error of errors) {
    assert.deepEqual(Object.keys(error), ['index', 'error', 'code', 'details']);
    assert.equal(error.code, 'validation_error');
    assert.notEqual(error.error, '');
  }
  return answer;
}

/** Nothing of the body was taken, and the answer is a plain refusal. */
function assertWholeRefused(answer: Answered, status = 400, code = 'validation_error'): void {
  assertRefused(answer, status, code);
  assert.equal(answer.body.event_ids, undefined);
  assert.equal(answer.body.accepted, undefined);
}

describe('forms', () => {
  const forms: Readonly<Record<string, (events: readonly string[]) => string>> = {
    'an object with events': (events) => `{"events":[${events.join(',')}]}`,
    'an object with white space wherever it may be': (events) =>
      `\n { "events"\t: \r\n[ ${events.join(' ,\n ')} ] } \n`,
    'an object whose key is escaped': (events) => `{"\\u0065vents":[${events.join(',')}]}`,
    'an array': (events) => `[${events.join(',')}]`,
    'an array with white space': (events) => `\r\n [\n${events.join('\n,\n')}\n]\n\n`,
    lines: (events) => events.join('\n'),
    'lines that end in CRLF': (events) => `${events.join('\r\n')}\r\n`,
    'lines with blank ones between': (events) => `\n\n \t\n${events.join('\n\r\n  \n')}\n\n`,
    'lines with white space around': (events) => events.map((text) => `  ${text}\t`).join('\n'),
  };
  for (const [form, write] of Object.entries(forms)) {
    test(`${form} is taken, and gives the ids that single events have`, async () => {
      const events = texts('forms', 5);
      const answer = assertTaken(await postBulk(service, write(events)), 5, 0);
      const ids = await Promise.all(events.map(async (text) => assertAccepted(await postEvent(service, text))));
      assert.deepEqual(answer.body.event_ids, ids);
      for (const id of ids) assert.match(id, DERIVED_ID);
    });
  }

  test('one event makes a bulk body in each form; a lone object without content type is no bulk document', async () => {
    const [one = ''] = texts('alone', 1);
    assertTaken(await postBulk(service, `{"events":[${one}]}`), 1, 0);
    assertTaken(await postBulk(service, `[${one}]`), 1, 0);
    for (const type of [
      'application/x-ndjson',
      'application/jsonl',
      'application/x-ndjson; charset=utf-8',
      'Application/X-NDJSON',
    ]) {
      assertTaken(await postBulk(service, one, { 'content-type': type }), 1, 0);
      assertTaken(await postBulk(service, `${one}\n`, { 'content-type': type }), 1, 0);
    }
    assertWholeRefused(await postBulk(service, one, { 'content-type': 'application/json' }));
  });

  test('lines are known without their content type, whatever it says instead', async () => {
    const lines = texts('undeclared', 3).join('\n');
    for (const type of ['application/json', 'text/plain', 'application/octet-stream']) {
      assertTaken(await postBulk(service, lines, { 'content-type': type }), 3, 0);
    }
    assert.equal(await total('undeclared'), 3);
  });

  test('a first line that looks like a bulk document is a line where more follows', async () => {
    const [one = '', two = ''] = texts('looks_alike', 2);
    const answer = assertTaken(await postBulk(service, `{"events":[]}\n${one}\n${two}`), 2, 1);
    assert.equal(answer.body.errors?.[0]?.index, 0);
    const full = assertTaken(await postBulk(service, `{"events":[${one}]}\n${two}\n`), 1, 1);
    assert.equal(full.body.event_ids?.[0], null);
  });

  test('strings may hold what looks like structure', async () => {
    const odd = ['"]}', '{"events":[', '\\', '\\"', '\n', '[[[', ',,', '"'].map((text, i) =>
      JSON.stringify(event({ event_name: 'structure', user_id: `${i}${text}`, metadata: { [text]: text } })),
    );
    for (const body of [`{"events":[${odd.join(',')}]}`, `[${odd.join(',')}]`, odd.join('\n')]) {
      assertTaken(await postBulk(service, body), odd.length, 0);
    }
    assert.equal(await total('structure'), odd.length);
  });
});

describe('events that are refused', () => {
  test('are named by index, and the others are taken', async () => {
    const events = [
      event({ event_name: 'mixed', user_id: 'a' }),
      event({ event_name: '' }),
      event({ event_name: 'mixed', user_id: 'b' }),
      event({ event_name: 'mixed', user_id: 'c', extra: 1 }),
      event({ event_name: 'mixed', timestamp: 'now' }),
      event({ event_name: 'mixed', user_id: 'd' }),
    ];
    const list = events.map((each) => JSON.stringify(each));
    for (const body of [`{"events":[${list.join(',')}]}`, `[${list.join(',')}]`, list.join('\n')]) {
      const { body: answer } = assertTaken(await postBulk(service, body), 3, 3);
      assert.deepEqual(
        answer.errors?.map(({ index, details }) => [index, details[0]?.path]),
        [
          [1, '/event_name'],
          [3, '/extra'],
          [4, '/timestamp'],
        ],
      );
    }
    assert.equal(await total('mixed'), 3);
  });

  test('may be no objects at all', async () => {
    const [one = ''] = texts('no_objects', 1);
    assertTaken(await postBulk(service, `[null,1,"a",[],${one},{},true,[[${one}]]]`), 1, 7);
    assertTaken(await postBulk(service, `{"events":[null,${one},-1.5e3]}`), 1, 2);
  });

  test('a broken line is refused alone; blank lines are not counted', async () => {
    const [one = '', two = '', three = ''] = texts('broken_lines', 3);
    const lines = ['', one, '{"event_name":', '  ', two, '', 'nonsense', `${three} ${three}`, '\r', three, '[]', ''];
    for (const headers of [NDJSON, {}]) {
      const { body } = assertTaken(await postBulk(service, lines.join('\n'), headers), 3, 4);
      assert.deepEqual(
        body.errors?.map(({ index }) => index),
        [1, 3, 4, 6],
      );
    }
    // By content type a first line may be broken too.
    assertTaken(await postBulk(service, `nonsense\n${one}`, NDJSON), 1, 1);
    assert.equal(await total('broken_lines'), 3);
  });

  test('a line that is not UTF-8 or has a lone surrogate is refused alone', async () => {
    const [one = '', two = ''] = texts('not_unicode', 2);
    const bad = Buffer.concat([Buffer.from('{"event_name":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
    const body = Buffer.concat([Buffer.from(`${one}\n`), bad, Buffer.from(`\n${two}\n{"event_name":"\\ud800"}\n`)]);
    const answer = assertTaken(await postBulk(service, body, NDJSON), 2, 2);
    assert.deepEqual(
      answer.body.errors?.map(({ index }) => index),
      [1, 3],
    );
  });

  test('are listed up to 100, and counted all', async () => {
    const events = Array.from({ length: 450 }, (_, i) =>
      JSON.stringify(i % 3 === 0 ? event({ event_name: 'many_errors', user_id: `u${i}` }) : { event_name: i }),
    );
    assertTaken(await postBulk(service, `[${events.join(',')}]`), 150, 300);
    assert.equal(await total('many_errors'), 150);
  });

  test('all of them make a 400 of the same shape with error', async () => {
    for (const [body, count] of [
      ['{"events":[{}]}', 1],
      ['[1,2,3]', 3],
      ['{"a":1}\n{"b":2}\n', 2],
      [`[${Array.from({ length: 500 }, () => '{}').join(',')}]`, 500],
    ] as const) {
      const answer = await postBulk(service, body);
      assert.equal(answer.status, 400, answer.text);
      assert.equal(typeof answer.body.error, 'string');
      assert.equal(answer.body.code, 'validation_error');
      assertCounts(answer, 0, count);
    }
  });

  test('with Prefer: return=minimal leave out event_ids, and nothing else', async () => {
    const [one = ''] = texts('minimal', 1);
    for (const prefer of ['return=minimal', 'respond-async, return=minimal', 'return = minimal', 'Return=Minimal']) {
      const { status, body } = await postBulk(service, `[${one},{}]`, { prefer });
      assert.equal(status, 202);
      assert.deepEqual(Object.keys(body), ['accepted', 'rejected', 'errors']);
      assert.deepEqual([body.accepted, body.rejected, body.errors?.[0]?.index], [1, 1, 1]);
    }
    const refused = await postBulk(service, '[{}]', { prefer: 'return=minimal' });
    assert.equal(refused.status, 400);
    assert.deepEqual([refused.body.accepted, refused.body.rejected, refused.body.event_ids], [0, 1, undefined]);
    for (const prefer of ['return=representation', 'return=minimalist']) {
      assertTaken(await postBulk(service, `[${one},{}]`, { prefer }), 1, 1);
    }
  });
});

describe('bodies that are refused as a whole', () => {
  test('a syntax error anywhere in a document refuses all of it, and nothing is taken', async () => {
    const [one = '', two = ''] = texts('syntax', 2);
    const many = texts('syntax', 2000).join(',');
    for (const body of [
      `[${one},${two}`,
      `[${one},${two},]`,
      `[${one} ${two}]`,
      `[${one},,${two}]`,
      `[,${one}]`,
      `[${one}]]`,
      `[${one}] x`,
      `[${one}][${two}]`,
      `[${one},{"a":}]`,
      `[${one},{"a":1]`,
      `[${one},nope]`,
      `[${one},"a]`,
      `{"events":[${one},${two}]`,
      `{"events":[${one},${two}}`,
      `{"events":[${one},{]}`,
      `{"events":[${one}]]}`,
      `{"events" [${one}]}`,
      `{"events":[${one},{"event_name":"a","event_name"}]}`,
      `[${many},{"event_name":"a]`,
      `{"events":[${many}]`,
    ]) {
      assertWholeRefused(await postBulk(service, body));
    }
    assert.equal(await total('syntax'), 0);
  });

  test('any other member beside events refuses all of it', async () => {
    const [one = ''] = texts('member', 1);
    for (const body of [
      `{"events":[${one}],"more":1}`,
      `{"more":1,"events":[${one}]}`,
      `{"events":[${one}],"events":[${one}]}`,
      `{"events":[${one}],"\\u0065vents":[]}`,
      `{"Events":[${one}]}`,
      `{"event":[${one}]}`,
      `{"":[${one}]}`,
    ]) {
      assertWholeRefused(await postBulk(service, body));
    }
    assert.equal(await total('member'), 0);
  });

  test('what is no such document or holds no event is refused', async () => {
    const [one = ''] = texts('no_document', 1);
    const bodies = [
      '',
      ' \n\r\n',
      '{}',
      '[]',
      '[ ]',
      '{"events":[]}',
      '{"events":null}',
      '{"events":{}}',
      `{"events":${one}}`,
      '{"events":"a"}',
      '{"events":',
      '{"events"',
      '{',
      '[',
      'null',
      '1',
      '"a"',
      'nonsense',
      '\u0000',
    ];
    for (const body of bodies) assertWholeRefused(await postBulk(service, body));
    for (const body of ['', '\n\n', ' \r\n \t ']) assertWholeRefused(await postBulk(service, body, NDJSON));
    assert.equal(await total('no_document'), 0);
  });
});

describe('what is stored', () => {
  test('is the same through bulk as through single events, in input order', async () => {
    const events = [
      event({ event_name: 'same_rows', user_id: 'a', metadata: { b: [1.5, 'é'] }, tags: ['x', 'y'], campaign_id: 'c' }),
      event({ event_name: 'same_rows', user_id: 'b', event_id: randomUUID(), timestamp: 1_723_475_612_345 }),
    ];
    for (const each of events) assertAccepted(await postEvent(service, each));
    assertTaken(await postBulk(service, JSON.stringify({ events }, undefined, 2)), 2, 0);
    const rows = await storedRows(service, 'same_rows');
    const byUser = (user: string) => rows.filter(({ user_id }) => user_id === user);
    for (const user of ['a', 'b']) {
      const [first, ...others] = byUser(user);
      for (const other of others) assert.deepEqual(other, first);
    }
    assert.equal(await total('same_rows'), 2);
  });

  test('is each event of a large body once, also where the body is sent again', async () => {
    const body = texts('large', 10_000).join('\n');
    const first = assertTaken(await postBulk(service, body), 10_000, 0);
    const again = assertTaken(await postBulk(service, body), 10_000, 0);
    assert.deepEqual(again.body.event_ids, first.body.event_ids);
    await service.settled();
    const { body: counted } = await metrics(service, { event_name: 'large' });
    assert.deepEqual([counted.total_events, counted.unique_users], [10_000, 10_000]);
  });
});
