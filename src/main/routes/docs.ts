import { readFileSync } from 'node:fs';
import type { HttpResponse, TemplatedApp } from 'uWebSockets.js';
import type { Config } from '../../shared/config.js';
import { RequestError } from '../../shared/errors.js';
import { openApiDocument } from '../../shared/openapi.js';
import { VERSION } from '../../shared/version.js';
import { type Reply, send, sendError } from '../reply.js';

/**
 * The API description and its page. Everything comes from this instance, so that it works without a network, and the page
 * may load nothing else: no script stands in it, no other host is allowed. Addresses are relative, for those who mount
 * the service under a path.
 */

const PAGE = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Penstock API</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="docs/swagger-ui.css?v=${VERSION}">
  </head>
  <body>
    <main id="swagger-ui">The API description is at <a href="openapi.json">openapi.json</a>.</main>
    <script src="docs/swagger-ui-bundle.js?v=${VERSION}"></script>
    <script src="docs/start.js?v=${VERSION}"></script>
  </body>
</html>
`;

const START_SCRIPT = `SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  validatorUrl: null,
  docExpansion: 'list',
  defaultModelsExpandDepth: 0,
});
`;

/** Swagger UI writes style attributes, and draws its icons from data URLs; nothing else is loosened. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const SAFETY_HEADERS = [
  ['X-Content-Type-Options', 'nosniff'],
  ['Referrer-Policy', 'no-referrer'],
] as const;

/** The page asks for its assets with the version in the query. */
const ASSET_HEADERS = [...SAFETY_HEADERS, ['Cache-Control', 'public, max-age=86400']] as const;

/** Where the build puts the two files of swagger-ui-dist, seen from the compiled module. */
const ASSETS = new URL('../../../assets/', import.meta.url);

/** Paths that are registered here, for GET and HEAD. */
export const DOCS_PATHS = [
  '/openapi.json',
  '/docs',
  '/docs/start.js',
  '/docs/swagger-ui.css',
  '/docs/swagger-ui-bundle.js',
] as const;

type DocsPath = (typeof DOCS_PATHS)[number];
type Content = Omit<Reply, 'status' | 'headOnly'>;

export function mountDocs(app: TemplatedApp, config: Config): void {
  const contents: Readonly<Record<DocsPath, () => Content>> = {
    '/openapi.json': once(() => ({
      body: Buffer.from(JSON.stringify(openApiDocument(config))),
      headers: SAFETY_HEADERS,
    })),
    '/docs': () => ({
      body: PAGE,
      contentType: 'text/html; charset=utf-8',
      headers: [...SAFETY_HEADERS, ['Content-Security-Policy', CONTENT_SECURITY_POLICY]],
    }),
    '/docs/start.js': () => ({ body: START_SCRIPT, contentType: JAVASCRIPT, headers: ASSET_HEADERS }),
    '/docs/swagger-ui.css': once(() => asset('swagger-ui.css', 'text/css; charset=utf-8')),
    '/docs/swagger-ui-bundle.js': once(() => asset('swagger-ui-bundle.js', JAVASCRIPT)),
  };
  for (const path of DOCS_PATHS) {
    app.get(path, (res) => serve(res, contents[path], false));
    app.head(path, (res) => serve(res, contents[path], true));
  }
}

const JAVASCRIPT = 'text/javascript; charset=utf-8';

function serve(res: HttpResponse, content: () => Content, headOnly: boolean): void {
  // A large answer is still being written when this returns; `send` has nothing to do when the reader is gone.
  res.onAborted(() => undefined);
  try {
    send(res, { ...content(), status: 200, headOnly });
  } catch (error) {
    const missing = new RequestError('not_found', 'the files of this page are not installed', { cause: error });
    sendError(res, missing, { headOnly });
  }
}

/** Made when it is first asked for, and kept: most instances never serve the page. A failure is not kept. */
function once(make: () => Content): () => Content {
  let made: Content | undefined;
  return () => (made ??= make());
}

function asset(name: string, contentType: string): Content {
  return { body: readFileSync(new URL(name, ASSETS)), contentType, headers: ASSET_HEADERS };
}
