/** The ceiling: uWebSockets.js reads each body and answers 202 to nothing. No service on it can answer more. */
import { App, us_socket_local_port } from 'uWebSockets.js';

const ANSWER = '{"status":"accepted"}';

function accept(res) {
  res.onAborted(() => {});
  res.onData((_chunk, isLast) => {
    if (!isLast) return;
    res.cork(() => {
      res.writeStatus('202 Accepted').writeHeader('Content-Type', 'application/json').end(ANSWER);
    });
  });
}

const app = App().post('/events', accept).post('/events/bulk', accept);
app.listen('127.0.0.1', 0, (socket) => {
  if (!socket) throw new Error('no port to listen on');
  console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${us_socket_local_port(socket)}` }));
});
process.once('SIGTERM', () => app.close());
