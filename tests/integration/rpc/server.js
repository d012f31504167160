// The test server on grpc-js: server.js FOLDER TCP TLS PROTO_ROOT…; what it does is said in server.c.
'use strict';
const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const { load, packStatus } = require('./protos.js');

const [folder, tcp, tls, ...roots] = process.argv.slice(2);
const { Peer } = load(roots);
let cancelled = 0;

// Counts a call that ends before its answer.
function watch(call) {
  call.on('cancelled', () => {
    clearTimeout(call.timer);
    if (!call.answered) cancelled++;
    call.answered = true;
  });
}

function echoMetadata(call) {
  const head = new grpc.Metadata();
  const tail = new grpc.Metadata();
  for (const value of call.metadata.get('x-ask')) head.add('x-head', value);
  for (const value of call.metadata.get('x-ask-bin')) tail.add('x-tail-bin', value);
  call.sendMetadata(head);
  return tail;
}

function failure(ask) {
  const metadata = new grpc.Metadata();
  const details = packStatus(ask);
  if (details) metadata.set('grpc-status-details-bin', details);
  return { code: ask.status, details: ask.text, metadata };
}

function answer(ask, call, count, bytes) {
  const deadline = call.getDeadline();
  const at = deadline instanceof Date ? deadline.getTime() : deadline;
  return {
    text: ask.text,
    payload: ask.size ? Buffer.alloc(ask.size) : ask.payload,
    count,
    bytes,
    remainingMs: Number.isFinite(at) ? Math.max(0, Math.round(at - Date.now())) : 0,
    process: process.pid,
    cancelled,
  };
}

function unary(call, callback) {
  watch(call);
  const ask = call.request;
  const tail = echoMetadata(call);
  if (ask.hold) return;
  call.timer = setTimeout(() => {
    call.answered = true;
    if (ask.status) callback(failure(ask));
    else callback(null, answer(ask, call, 0, 0), tail);
  }, ask.delayMs);
}

function down(call) {
  watch(call);
  const ask = call.request;
  let count = 0;
  const next = () => {
    while (!call.answered && count < ask.count) {
      const more = call.write(answer(ask, call, count++, 0));
      if (ask.delayMs && count < ask.count) {
        call.timer = setTimeout(next, ask.delayMs);
        return;
      }
      if (!more) {
        call.once('drain', next);
        return;
      }
    }
    if (call.answered || ask.hold) return;
    call.answered = true;
    if (ask.status) call.emit('error', failure(ask));
    else call.end();
  };
  if (ask.delayMs) call.timer = setTimeout(next, ask.delayMs);
  else next();
}

function up(call, callback) {
  let count = 0;
  let bytes = 0;
  watch(call);
  call.on('data', (ask) => {
    count++;
    bytes += ask.payload.length;
    if (!call.answered && ask.status && count >= ask.after) {
      call.answered = true;
      callback(failure(ask));
    }
  });
  call.on('end', () => {
    if (call.answered) return;
    call.answered = true;
    callback(null, answer({ text: '', payload: Buffer.alloc(0) }, call, count, bytes));
  });
}

function both(call) {
  let count = 0;
  watch(call);
  call.on('data', (ask) => {
    if (call.answered) return;
    count++;
    if (ask.status && count >= ask.after) {
      call.answered = true;
      call.emit('error', failure(ask));
      return;
    }
    call.write(answer(ask, call, count - 1, 0));
  });
  call.on('end', () => {
    if (call.answered) return;
    call.answered = true;
    call.end();
  });
}

const server = new grpc.Server();
server.addService(
  Object.fromEntries(['Unary', 'Down', 'Up', 'Both'].map((name) => [name, Peer.service[name]])),
  { Unary: unary, Down: down, Up: up, Both: both });
const read = (name) => fs.readFileSync(`${folder}/${name}`);
const secure = grpc.ServerCredentials.createSsl(
  read('ca.pem'), [{ private_key: read('key.pem'), cert_chain: read('cert.pem') }], true);
const plain = grpc.ServerCredentials.createInsecure();
const bind = (where, credentials) => new Promise((resolve, reject) => {
  server.bindAsync(where, credentials, (error) => (error ? reject(error) : resolve()));
});

fs.rmSync(`${folder}/peer.sock`, { force: true });
bind(tcp, plain)
  .then(() => bind(`unix:${folder}/peer.sock`, plain))
  .then(() => bind(tls, secure))
  .then(() => {
    console.log('serving');
    process.on('SIGTERM', () => server.tryShutdown(() => process.exit(0)));
  })
  .catch((error) => {
    console.error(String(error));
    process.exit(1);
  });
