// The test client on grpc-js: client.js FOLDER TARGET plain|tls PROTO_ROOT PROTO_ROOT [CASE...]. The cases
// are those of cases.c, and what only our server has: health.
'use strict';
const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const { load, unpackStatus } = require('./protos.js');

const [folder, target, kind, testRoot, ourRoot, ...wanted] = process.argv.slice(2);
const { Peer, Health } = load([testRoot, ourRoot]);
const { status } = grpc;
const LIMIT = 4 << 20;
const OVERHEAD = 5;

const read = (name) => fs.readFileSync(`${folder}/${name}`);
const credentials = kind === 'plain'
  ? grpc.credentials.createInsecure()
  : grpc.credentials.createSsl(read('ca.pem'), read('key.pem'), read('cert.pem'));
const options = {
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 300,
};
const peer = new Peer(target, credentials, options);
const health = new Health(target, credentials, options);

const soon = (ms = 20000) => ({ deadline: Date.now() + ms });
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

function expect(condition, ...found) {
  if (!condition) throw new Error(`not as expected: ${JSON.stringify(found)}`);
}

// One answer: {value, head, tail}; or throws the grpc error.
function unary(ask, metadata = new grpc.Metadata(), opts = soon(), client = peer, method = 'Unary') {
  return new Promise((resolve, reject) => {
    const result = {};
    const call = client[method](ask, metadata, opts, (error, value) => {
      result.error = error;
      result.value = value;
    });
    call.on('metadata', (head) => { result.head = head; });
    call.on('status', (end) => {
      result.tail = end.metadata;
      if (end.code !== status.OK) reject(Object.assign(new Error(end.details), end));
      else resolve(result);
    });
  });
}

const ask = async (fields) => (await unary(fields)).value;

// All answers of a stream; what came before an error is its `heard`.
function collect(call) {
  return new Promise((resolve, reject) => {
    const heard = [];
    call.on('data', (answer) => heard.push(answer));
    call.on('error', (error) => reject(Object.assign(error, { heard })));
    call.on('end', () => resolve(heard));
  });
}

function up(asks, end = true) {
  return new Promise((resolve, reject) => {
    const call = peer.Up(soon(), (error, value) => (error ? reject(error) : resolve(value)));
    let next = 0;
    const write = () => {
      while (next < asks.length) {
        if (!call.write(asks[next++])) {
          call.once('drain', write);
          return;
        }
      }
      if (end) call.end();
    };
    write();
  });
}

async function fails(code, promise) {
  try {
    await promise;
  } catch (error) {
    expect(error.code === code, error.code, error.details);
    return error;
  }
  throw new Error(`no error where ${code} was due`);
}

async function serverSaw(count) {
  const end = Date.now() + 5000;
  for (;;) {
    const seen = (await ask({})).cancelled;
    if (seen >= count) return;
    expect(Date.now() < end, seen, count);
    await sleep(10);
  }
}

async function reconnects(before) {
  const metadata = new grpc.Metadata();
  metadata.setOptions({ waitForReady: true });
  const { value } = await unary({}, metadata);
  expect(value.process !== before);
}

// A stream of answers, read one by one.
function reader(call) {
  const answers = [];
  let wake = () => {};
  call.on('data', (answer) => { answers.push(answer); wake(); });
  call.on('error', () => wake());
  return async (count) => {
    while (answers.length < count) await new Promise((resolve) => { wake = resolve; });
    return answers;
  };
}

const cases = {
  async unary() {
    const payload = Buffer.from(Array.from({ length: 1024 }, (_, i) => i % 256));
    const answer = await ask({ text: 'grüß dich', payload });
    expect(answer.text === 'grüß dich' && payload.equals(answer.payload));
  },
  async down() {
    const answers = await collect(peer.Down({ text: 'down', count: 500 }, soon()));
    expect(answers.length === 500 && answers.every((a, i) => a.count === i));
  },
  async up() {
    const answer = await up(Array(500).fill({ payload: Buffer.alloc(1000) }));
    expect(answer.count === 500 && answer.bytes === 500000, answer);
  },
  async both() {
    const call = peer.Both(soon());
    const ended = collect(call);
    const wait = reader(call);
    for (let i = 0; i < 100; i++) {
      call.write({ text: String(i) });
      expect((await wait(i + 1))[i].text === String(i));
    }
    call.end();
    expect((await ended).length === 100);
  },
  async empty() {
    expect((await ask({})).payload.length === 0);
    expect((await collect(peer.Down({}, soon()))).length === 0);
    expect((await up([])).count === 0);
    const call = peer.Both(soon());
    call.end();
    expect((await collect(call)).length === 0);
  },
  async unimplemented() {
    await fails(status.UNIMPLEMENTED, unary({}, undefined, soon(), peer, 'Missing'));
    await fails(status.UNIMPLEMENTED, collect(peer.MissingDown({}, soon())));
    const call = peer.MissingBoth(soon());
    call.write({});
    await fails(status.UNIMPLEMENTED, collect(call));
  },
  async metadata() {
    const metadata = new grpc.Metadata();
    metadata.add('x-ask', 'one');
    metadata.add('x-ask', 'two; =');
    const { head } = await unary({ text: 'm' }, metadata);
    // Node joins values of one name.
    expect(head.get('x-head').join(', ') === 'one, two; =', head.get('x-head'));
  },
  async 'metadata-bin'() {
    const metadata = new grpc.Metadata();
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    const values = [all, all.subarray(0, 1), all.subarray(0, 255)];
    for (const value of values) metadata.add('x-ask-bin', value);
    const { tail } = await unary({ text: 'm' }, metadata);
    const found = tail.get('x-tail-bin');
    expect(found.length === 3 && found.every((value, i) => value.equals(values[i])), found.length);
  },
  async deadline() {
    const before = (await ask({})).cancelled;
    const start = Date.now();
    await fails(status.DEADLINE_EXCEEDED, unary({ hold: true }, undefined, soon(300)));
    expect(Date.now() - start >= 290 && Date.now() - start < 5000, Date.now() - start);
    await serverSaw(before + 1);
  },
  async 'deadline-seen'() {
    const { value } = await unary({}, undefined, soon(5000));
    expect(value.remainingMs > 3000 && value.remainingMs <= 5000, value.remainingMs);
    expect((await unary({}, undefined, {})).value.remainingMs === 0);
  },
  async 'cancel-by-client'() {
    const before = (await ask({})).cancelled;
    const call = peer.Down({ count: 1, hold: true }, soon());
    const ended = collect(call);
    call.once('data', () => call.cancel());
    await fails(status.CANCELLED, ended);
    await serverSaw(before + 1);
  },
  async 'cancel-by-server'() {
    const enough = { text: 'enough', status: 1, after: 3 };
    const call = peer.Both(soon());
    for (let i = 0; i < 3; i++) call.write(enough);
    const error = await fails(status.CANCELLED, collect(call));
    expect(error.heard.length === 2, error.heard.length);
    await fails(status.CANCELLED, up(Array(3).fill(enough), false));
  },
  async status() {
    const text = ' 100 % “müde”, 😀 %41 ';
    // Our errors have no class of their own for UNKNOWN, ABORTED, OUT_OF_RANGE and DATA_LOSS.
    for (const code of [1, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 16]) {
      const error = await fails(code, ask({ status: code, text }));
      expect(error.details === text, code, error.details);
    }
  },
  async details() {
    const error = await fails(status.FAILED_PRECONDITION,
      ask({ status: 9, text: 'not so', reason: 'NODE_CONTRAINDICATED' }));
    const found = unpackStatus(error.metadata.get('grpc-status-details-bin')[0]);
    expect(found.status.code === 9 && found.status.message === 'not so', found.status);
    expect(found.ErrorInfo.reason === 'NODE_CONTRAINDICATED' && found.ErrorInfo.domain === 'postern');
    expect(!found.BadRequest);
    const call = peer.Down({ status: 3, text: 'not so', field: 'secrets[3].name', count: 2 }, soon());
    const invalid = await fails(status.INVALID_ARGUMENT, collect(call));
    expect(invalid.heard.length === 2);
    const bad = unpackStatus(invalid.metadata.get('grpc-status-details-bin')[0]).BadRequest;
    expect(bad.fieldViolations[0].field === 'secrets[3].name', bad);
  },
  async sizes() {
    for (const size of [1, 16383, 16384, 16385, 65530, 65535, 65536, 65537, 1 << 20,
      LIMIT - OVERHEAD - 100, LIMIT - OVERHEAD]) {
      expect((await up([{ payload: Buffer.alloc(size) }])).bytes === size, size);
      const down = Math.min(size, LIMIT - 100);
      const [answer] = await collect(peer.Down({ size: down, count: 1 }, soon()));
      expect(answer.payload.length === down, down);
    }
  },
  async 'limit-up'() {
    await fails(status.RESOURCE_EXHAUSTED, ask({ payload: Buffer.alloc(LIMIT - OVERHEAD + 1) }));
    expect((await ask({ text: 'on' })).text === 'on');
  },
  async 'limit-down'() {
    await fails(status.RESOURCE_EXHAUSTED, ask({ size: LIMIT + 1 }));
    expect((await ask({ text: 'on' })).text === 'on');
  },
  async 'flood-down'() {
    const call = peer.Down({ size: 65536, count: 512 }, soon());
    let count = 0;
    let bytes = 0;
    call.on('data', (answer) => {
      expect(answer.count === count);
      count++;
      bytes += answer.payload.length;
      if (count === 1) {
        call.pause();
        setTimeout(() => call.resume(), 300);
      }
    });
    await new Promise((resolve, reject) => { call.on('end', resolve).on('error', reject); });
    expect(count === 512 && bytes === 32 << 20, count, bytes);
  },
  async 'flood-up'() {
    const answer = await up(Array(512).fill({ payload: Buffer.alloc(65536) }));
    expect(answer.count === 512 && answer.bytes === 32 << 20, answer);
  },
  async 'concurrent-200'() {
    const start = Date.now();
    const all = await Promise.all(
      Array.from({ length: 200 }, (_, i) => ask({ text: String(i), delayMs: 200 })));
    expect(all.every((answer, i) => answer.text === String(i)));
    expect(Date.now() - start < 20000); // one after the other: 40
  },
  async drain() {
    const { process: before } = await ask({});
    const call = peer.Down({ count: 10, delayMs: 100 }, soon());
    const ended = collect(call);
    let heard = 0;
    call.on('data', () => { if (++heard === 2) process.kill(before, 'SIGTERM'); });
    expect((await ended).length === 10);
    await reconnects(before);
  },
  async lost() {
    const { process: before } = await ask({});
    const call = peer.Down({ count: 1, hold: true }, soon());
    call.once('data', () => process.kill(before, 'SIGKILL'));
    await fails(status.UNAVAILABLE, collect(call));
    await reconnects(before);
  },
  async health() {
    const check = async (service) => (
      await unary({ service }, undefined, soon(), health, 'Check')).value.status;
    await ask({ text: 'health on' });
    expect(await check('') === 1 && await check('toggled') === 1);
    await fails(status.NOT_FOUND, check('nobody'));
    const watch = health.Watch({ service: 'toggled' }, soon());
    const wait = reader(watch);
    expect((await wait(1))[0].status === 1);
    await ask({ text: 'health off' });
    expect((await wait(2))[1].status === 2);
    await ask({ text: 'health on' });
    expect((await wait(3))[2].status === 1);
    watch.cancel();
    const { value } = await unary({}, undefined, soon(), health, 'List');
    expect(Object.keys(value.statuses).sort().join() === ',toggled', value);
  },
};

(async () => {
  for (const [name, run] of Object.entries(cases)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    try {
      await run();
      console.log(`${name}: ok`);
    } catch (error) {
      console.log(`${name}: ${error.stack.split('\n').slice(0, 3).join(' ')}`);
    }
  }
  process.exit(0);
})();
