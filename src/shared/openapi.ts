import { type ApiSchemas, apiSchemas } from './api-schemas.js';
import type { Config } from './config.js';
import { paths } from './openapi-paths.js';
import { VERSION } from './version.js';

/**
 * The OpenAPI 3.1 document, made from the same TypeBox schemas that the encoders compile and the contract tests use, so
 * that it cannot say anything else than the service does. Limits in it are those of this instance.
 */

const DESCRIPTION = `
Durable event ingestion and exact event metrics.

- An answer of 202 means that the events are durable; retry anything that got no answer, 429 or 5xx, as it was.
- Any other 4xx means never to send this again. Every refusal has the shape of \`Error\`, with a stable \`code\`; an unknown
  path is 404 \`not_found\`.
- Every GET also answers HEAD.
`.trim();

const TAGS = [
  { name: 'events', description: 'Sending events.' },
  { name: 'metrics', description: 'Counting them.' },
  { name: 'health', description: 'For load balancers and supervisors.' },
  { name: 'documentation', description: 'This document.' },
];

export function openApiDocument(config: Config): object {
  const schemas = apiSchemas(config);
  const document = {
    openapi: '3.1.0',
    info: {
      title: 'Penstock',
      version: VERSION,
      summary: 'Durable HTTP event ingestion and exact event metrics on ClickHouse.',
      description: DESCRIPTION,
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/', description: 'This instance.' }],
    tags: TAGS,
    ...security(config),
    paths: paths(config),
    components: { ...securitySchemes(config), schemas: named(schemas) },
  };
  // Leaves out what is not JSON: TypeBox keeps kinds beside its schemas.
  return JSON.parse(JSON.stringify(document)) as object;
}

/** Without configured keys every request is let in. */
function security(config: Config): object {
  return { security: config.apiKeys.length === 0 ? [] : [{ bearer: [] }, { header: [] }] };
}

function securitySchemes(config: Config): object {
  if (config.apiKeys.length === 0) return {};
  const scopes = 'Scope `write` sends events, `read` asks for metrics.';
  return {
    securitySchemes: {
      bearer: { type: 'http', scheme: 'bearer', description: `An API key. ${scopes}` },
      header: { type: 'apiKey', in: 'header', name: 'X-API-Key', description: `The same key. ${scopes}` },
    },
  };
}

/** The schemas, each written once: wherever one stands in another there is a reference. */
function named(schemas: ApiSchemas): object {
  const names = new Map<unknown, string>(Object.entries(schemas).map(([name, schema]) => [schema, name]));
  return Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, mapMembers(schema, names)]));
}

function withReferences(value: unknown, names: ReadonlyMap<unknown, string>): unknown {
  const name = names.get(value);
  if (name !== undefined) return { $ref: `#/components/schemas/${name}` };
  return typeof value === 'object' && value !== null ? mapMembers(value, names) : value;
}

function mapMembers(value: object, names: ReadonlyMap<unknown, string>): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => withReferences(item, names));
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withReferences(member, names)]));
}
