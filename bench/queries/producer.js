/**
 * A producer beside the questions, on a thread of its own: so many events a second through POST /events/bulk, on time whatever the
 * service does. One in a hundred is late by up to 30 days, three in a thousand are sent again some time later, and one in
 * fifty is a user who was never seen before.
 */
import { randomUUID } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { BulkSender } from './bulk-sender.js';
import { CHANNELS, DAY_MS, DAYS, DUPLICATE_SHARE, LATE_SHARE, lookup, NAMES, USER_SKEW } from './rows.js';

const PERIOD_MS = 100;
const IN_FLIGHT_MAX = 8;
const BODY_MAX_EVENTS = 10_000;
const NEW_USER_SHARE = 0.02;
/** After so long at most an event is sent again. */
const AGAIN_MAX_MS = 20_000;

const { url, rate, users } = workerData;
const sender = new BulkSender(url);
const names = lookup(NAMES);
const channels = lookup(CHANNELS);
const again = [];
let made = 0;
let acknowledged = 0;
let repeated = 0;
let newUsers = 0;
const inFlight = new Set();

function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}

function user() {
  if (Math.random() < NEW_USER_SHARE) return `new_user_${process.pid}_${(newUsers += 1)}`;
  return `user_${Math.floor(users * Math.random() ** USER_SKEW)}`;
}

function event(nowMs) {
  const lateMs = Math.random() < LATE_SHARE ? Math.floor(Math.random() * DAYS * DAY_MS) : 0;
  const id = randomUUID();
  const line = `{"event_id":"${id}","event_name":"${pick(names)}","channel":"${pick(channels)}","user_id":"${user()}","timestamp":${nowMs - lateMs},"tags":["electronics"],"metadata":{"product_id":"prod-${made % 50_000}"}}`;
  if (Math.random() < DUPLICATE_SHARE) again.push({ atMs: nowMs + Math.random() * AGAIN_MAX_MS, line });
  return line;
}

/** What is due to be sent again by then. */
function dueAgain(nowMs) {
  const due = [];
  for (let i = again.length - 1; i >= 0; i -= 1) if (again[i].atMs <= nowMs) due.push(again.splice(i, 1)[0].line);
  return due;
}

async function send(lines, fresh) {
  await sender.send(lines);
  acknowledged += fresh;
  repeated += lines.length - fresh;
}

function post(lines, fresh) {
  const sent = send(lines, fresh).finally(() => inFlight.delete(sent));
  inFlight.add(sent);
}

const startMs = performance.now();
const timer = setInterval(() => {
  const due = Math.floor(((performance.now() - startMs) * rate) / 1000) - made;
  if (inFlight.size >= IN_FLIGHT_MAX || due < 1) return;
  const nowMs = Date.now();
  const fresh = Math.min(due, BODY_MAX_EVENTS);
  const lines = dueAgain(nowMs);
  for (let i = 0; i < fresh; i += 1) {
    made += 1;
    lines.push(event(nowMs));
  }
  post(lines, fresh);
}, PERIOD_MS);

/** Ends when everything that was made is acknowledged. */
async function finish() {
  clearInterval(timer);
  const seconds = (performance.now() - startMs) / 1000;
  const behind = Math.floor(seconds * rate) - made;
  const rest = dueAgain(Infinity);
  if (rest.length > 0) post(rest, 0);
  await Promise.all(inFlight);
  sender.close();
  parentPort.postMessage({ acknowledged, repeated, newUsers, behind, refusals: sender.refusals, seconds });
  parentPort.close();
}

parentPort.on('message', (message) => {
  if (message === 'count') parentPort.postMessage({ acknowledged });
  else void finish();
});
