import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import Schema from 'typebox/schema';
import { apiSchemas } from '../../../src/shared/api-schemas.js';
import { loadConfig } from '../../../src/shared/config.js';
import { ERROR_CODES, statusOf } from '../../../src/shared/errors.js';
import { openApiDocument } from '../../../src/shared/openapi.js';

type Json = Readonly<Record<string, unknown>>;
type Examples = Readonly<Record<string, { readonly value: { readonly code?: string } }>>;
interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { name: string; in: string; schema: Json; example?: unknown; examples?: Examples }[];
  readonly requestBody?: { readonly content: Record<string, Json> };
  readonly responses: Record<string, { headers?: Record<string, Json>; content?: Record<string, Json> }>;
  readonly security?: readonly unknown[];
}
interface Document {
  readonly openapi: string;
  readonly security: readonly unknown[];
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { readonly schemas: Record<string, Json> };
}

const document = openApiDocument(loadConfig({}, {})) as Document;
const withKeys = openApiDocument(loadConfig({ apiKeys: 'an-example-key' }, {})) as Document;

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, operation })),
);

function operationAt(name: string): Operation {
  const found = operations.find((each) => each.name === name);
  assert.ok(found, name);
  return found.operation;
}

/** Puts in the place of each reference what it refers to. */
function resolve(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(resolve);
  if (typeof value !== 'object' || value === null) return value;
  if ('$ref' in value) {
    const name = String(value.$ref).replace('#/components/schemas/', '');
    const schema = document.components.schemas[name];
    assert.ok(schema, `${String(value.$ref)} is there`);
    return resolve(schema);
  }
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, resolve(member)]));
}

function assertFits(schema: unknown, value: unknown, where: string): void {
  const [fits, errors] = Schema.Errors(resolve(schema) as object, value);
  assert.ok(fits, `${where}: ${JSON.stringify(errors)}`);
}

test('it describes every path of the contract, with its method', () => {
  assert.deepEqual(operations.map(({ name }) => name).toSorted(), [
    'GET /docs',
    'GET /health',
    'GET /healthz',
    'GET /livez',
    'GET /metrics',
    'GET /openapi.json',
    'GET /ready',
    'GET /readyz',
    'POST /events',
    'POST /events/bulk',
  ]);
  assert.match(document.openapi, /^3\.1\./);
});

describe('statuses', () => {
  const INTAKE = ['202', '400', '401', '403', '405', '413', '415', '429', '500', '503'];
  const expected: Record<string, string[]> = {
    'POST /events': INTAKE,
    'POST /events/bulk': INTAKE,
    'GET /metrics': ['200', '400', '401', '403', '405', '429', '500', '503'],
    'GET /health': ['200', '405'],
    'GET /ready': ['200', '405', '503'],
  };
  for (const [name, statuses] of Object.entries(expected)) {
    test(`${name} has those of the contract`, () => {
      assert.deepEqual(Object.keys(operationAt(name).responses), statuses);
    });
  }

  test('405 carries Allow; what a retry can mend carries Retry-After, and nothing else does', () => {
    for (const { name, operation } of operations) {
      for (const [status, { headers = {} }] of Object.entries(operation.responses)) {
        assert.equal('Allow' in headers, status === '405', `${name} ${status}`);
        // Readiness says where to go, not when to come again.
        const retryable = (status === '429' || status.startsWith('5')) && !name.startsWith('GET /ready');
        assert.equal('Retry-After' in headers, retryable, `${name} ${status}`);
      }
    }
  });
});

describe('headers and parameters', () => {
  const names = (operation: string, where: string) =>
    (operationAt(operation).parameters ?? []).filter((each) => each.in === where).map((each) => each.name);

  test('are those of the contract', () => {
    assert.deepEqual(names('POST /events', 'header'), ['Idempotency-Key', 'Content-Encoding']);
    assert.deepEqual(names('POST /events/bulk', 'header'), ['Prefer', 'Content-Encoding']);
    assert.deepEqual(names('GET /metrics', 'query'), [
      'event_name',
      'from',
      'to',
      'channel',
      'group_by',
      'limit',
      'cursor',
    ]);
  });

  test('limits are those of the configuration', () => {
    const small = openApiDocument(loadConfig({ bulkMaxEvents: '7', channels: 'shop,till' }, {})) as Document;
    const text = JSON.stringify(small);
    assert.ok(text.includes('"maxItems":7'));
    assert.ok(text.includes('"enum":["shop","till"]'));
    assert.ok(text.includes('"channel":"shop"'), 'in the examples too');
  });
});

describe('every error code', () => {
  const documented = new Map<string, Set<string>>();
  for (const { operation } of operations) {
    for (const [status, { content = {} }] of Object.entries(operation.responses)) {
      const examples = (content['application/json']?.['examples'] ?? {}) as Examples;
      for (const { value } of Object.values(examples)) {
        const { code = '' } = value;
        documented.set(code, (documented.get(code) ?? new Set()).add(status));
      }
    }
  }

  test('stands under its own status, and none is missing', () => {
    for (const code of ERROR_CODES) {
      // What is answered where there is no path cannot stand under one.
      const statuses = code === 'not_found' ? [] : [String(statusOf(code))];
      assert.deepEqual([...(documented.get(code) ?? [])], statuses, code);
    }
    for (const code of documented.keys()) assert.ok((ERROR_CODES as string[]).includes(code), code);
  });
});

describe('examples', () => {
  test('of bodies fit their schemas', () => {
    let seen = 0;
    for (const { name, operation } of operations) {
      const contents = [operation.requestBody, ...Object.values(operation.responses)].flatMap((each) =>
        Object.entries(each?.content ?? {}),
      );
      for (const [type, media] of contents) {
        for (const [key, { value }] of Object.entries((media['examples'] ?? {}) as Examples)) {
          assertFits(media['schema'], value, `${name} ${type} ${key}`);
          seen++;
        }
      }
    }
    assert.ok(seen > 40, `${seen} examples`);
  });

  test('of schemas fit them', () => {
    let seen = 0;
    const visit = (value: unknown, where: string): void => {
      if (typeof value !== 'object' || value === null) return;
      if ('examples' in value && Array.isArray(value.examples)) {
        for (const example of value.examples) assertFits(value, example, where);
        seen += value.examples.length;
      }
      for (const [key, member] of Object.entries(value)) visit(member, `${where}/${key}`);
    };
    visit(document.components.schemas, '');
    assert.ok(seen > 12, `${seen} examples`);
  });

  test('of parameters fit their schemas', () => {
    for (const { name, operation } of operations) {
      for (const { name: parameter, schema, example, examples = {} } of operation.parameters ?? []) {
        if (example !== undefined) assertFits(schema, example, `${name} ${parameter}`);
        for (const each of Object.values(examples)) assertFits(schema, each.value, `${name} ${parameter}`);
      }
    }
  });
});

describe('schemas', () => {
  test('stand in the document once, by name, and are all used', () => {
    const text = JSON.stringify(document);
    for (const name of Object.keys(apiSchemas({ channels: ['web'], bulkMaxEvents: 1 }))) {
      assert.ok(name in document.components.schemas, name);
      assert.ok(text.includes(`"#/components/schemas/${name}"`), `${name} is referred to`);
    }
  });

  test('refuse what the contract refuses', () => {
    const event = { event_name: 'e', channel: 'web', user_id: 'u', timestamp: 1 };
    const refused = [
      {},
      { ...event, event_name: '' },
      { ...event, channel: 'fax' },
      { ...event, timestamp: 0 },
      { ...event, timestamp: 1.5 },
      { ...event, timestamp: '1' },
      { ...event, tags: Array.from({ length: 65 }, () => 't') },
      { ...event, metadata: [] },
      { ...event, event_id: 'not-a-uuid' },
      { ...event, unknown: 1 },
    ];
    const schema = resolve({ $ref: '#/components/schemas/Event' }) as object;
    assert.ok(Schema.Check(schema, { ...event, campaign_id: null, tags: null, metadata: null }));
    for (const each of refused) assert.ok(!Schema.Check(schema, each), JSON.stringify(each));
  });
});

test('keys are asked for where they are configured, never for health and documentation', () => {
  assert.deepEqual(document.security, []);
  assert.equal(withKeys.security.length, 2);
  const open = Object.entries(withKeys.paths)
    .filter(([, methods]) => Object.values(methods).every((operation) => operation.security?.length === 0))
    .map(([path]) => path);
  assert.deepEqual(open.toSorted(), ['/docs', '/health', '/healthz', '/livez', '/openapi.json', '/ready', '/readyz']);
  assert.ok(!JSON.stringify(withKeys).includes('an-example-key'));
});
