import type { TemplatedApp } from 'uWebSockets.js';
import type { Intake } from '../intake.js';

/** `POST /events` and `POST /events/bulk`. */
export function mountEvents(app: TemplatedApp, intake: Intake): void {
  app.post('/events', (res, req) => intake.take(res, req, false));
  app.post('/events/bulk', (res, req) => intake.take(res, req, true));
}
