import { once } from 'node:events';
import net from 'node:net';

/** A way to a server that can be closed and opened again under one address: to its client, the server is away and comes back. */
export class Gate {
  readonly #target: URL;
  readonly #sockets = new Set<net.Socket>();
  #server: net.Server | undefined;
  #port = 0;

  private constructor(target: string) {
    this.#target = new URL(target);
  }

  /** Closed at first: its port is chosen, and refuses. */
  static async to(target: string): Promise<Gate> {
    const gate = new Gate(target);
    await gate.open();
    await gate.close();
    return gate;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async open(): Promise<void> {
    const server = net.createServer((client) => {
      const behind = net.connect(Number(this.#target.port), this.#target.hostname);
      this.#join(client, behind);
    });
    this.#server = server;
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    this.#port = (server.address() as net.AddressInfo).port;
  }

  /** New connections are refused, those that are there are reset. */
  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    server.close();
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await once(server, 'close');
  }

  #join(client: net.Socket, server: net.Socket): void {
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  }
}
