import {
  App,
  type HttpRequest,
  type HttpResponse,
  type TemplatedApp,
  us_listen_socket_close,
  us_socket_local_port,
} from 'uWebSockets.js';
import { RequestError } from '../shared/errors.js';
import { sendError } from './reply.js';

/** A listener: its routes, 405 and 404 for the rest. What the routes do is in routes/. */

/** LIBUS_LISTEN_EXCLUSIVE_PORT: exported by the module, but not by its typings. */
const EXCLUSIVE_PORT = 1;

/** `listen` with a host and options, which the module has and its typings lack. */
interface ExclusiveApp {
  listen(host: string, port: number, options: number, opened: (socket: Socket | false) => void): void;
}

type Socket = Parameters<typeof us_listen_socket_close>[0];

export interface ListenerOptions {
  readonly name: string;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** Registers the routes. */
  readonly mount: (app: TemplatedApp) => void;
  /** Which methods each path has, for `Allow`. */
  readonly methods: Readonly<Record<string, readonly string[]>>;
}

export class Listener {
  readonly url: string;
  readonly #app: TemplatedApp;
  #socket: Socket | undefined;

  private constructor(app: TemplatedApp, socket: Socket, host: string) {
    this.#app = app;
    this.#socket = socket;
    this.url = `http://${urlHost(host)}:${us_socket_local_port(socket)}`;
  }

  static open({ name, host, port, mount, methods }: ListenerOptions): Promise<Listener> {
    const app = App();
    mount(app);
    for (const [path, allowed] of Object.entries(methods)) {
      app.any(path, (res, req) => {
        const headOnly = isHead(req);
        sendError(res, notAllowed(path, allowed), { headers: [['Allow', allowed.join(', ')]], headOnly });
      });
    }
    app.any('/*', (res: HttpResponse, req: HttpRequest) => {
      const missing = new RequestError('not_found', `there is nothing at ${printable(req.getUrl())}`);
      sendError(res, missing, { headOnly: isHead(req) });
    });
    return new Promise((resolve, reject) => {
      // Exclusive, or a second process on the same port would silently share its connections with us.
      (app as unknown as ExclusiveApp).listen(host, port, EXCLUSIVE_PORT, (socket) => {
        if (socket === false)
          reject(
            new Error(
              `cannot listen on ${host}:${port} (${name} listener): is the port taken, or the address not of this machine?`,
            ),
          );
        else resolve(new Listener(app, socket, host));
      });
    });
  }

  /** Takes no further connection; those that are open stay. */
  stopListening(): void {
    if (this.#socket === undefined) return;
    us_listen_socket_close(this.#socket);
    this.#socket = undefined;
  }

  /** Closes everything at once. */
  close(): void {
    this.stopListening();
    this.#app.close();
  }
}

/** An answer to HEAD has no body: one that had would be read as the beginning of the next answer. */
export function isHead(req: HttpRequest): boolean {
  return req.getMethod() === 'head';
}

function notAllowed(path: string, allowed: readonly string[]): RequestError {
  return new RequestError('method_not_allowed', `${path} has ${allowed.join(', ')} only`);
}

function printable(url: string): string {
  return url.slice(0, 128).replaceAll(/[^\x21-\x7e]/g, '?');
}

function urlHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}
