import type { HttpResponse, TemplatedApp } from 'uWebSockets.js';
import { sendJson } from '../reply.js';
import type { Readiness } from '../readiness.js';

/** Liveness and readiness, on both listeners, for GET and HEAD. */
export function mountHealth(app: TemplatedApp, readiness: Readiness): void {
  const healthy = (res: HttpResponse, headOnly: boolean): void =>
    sendJson(res, 200, { status: 'healthy' }, { headOnly });
  const ready = (res: HttpResponse, headOnly: boolean): void => {
    const { status, body } = readiness.report();
    sendJson(res, status, body, { headOnly, headers: [['Cache-Control', 'no-store']] });
  };
  const ok = (res: HttpResponse, headOnly: boolean): void => sendJson(res, 200, { status: 'ok' }, { headOnly });
  const answers = { '/health': healthy, '/livez': healthy, '/healthz': ok, '/ready': ready, '/readyz': ready };
  for (const [path, answer] of Object.entries(answers)) {
    app.get(path, (res) => answer(res, false));
    app.head(path, (res) => answer(res, true));
  }
}

export const HEALTH_PATHS = ['/health', '/livez', '/healthz', '/ready', '/readyz'] as const;
