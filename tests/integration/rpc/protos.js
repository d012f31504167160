// The test's protos for grpc-js, loaded at run time.
'use strict';
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const options = { keepCase: false, longs: Number, enums: Number, defaults: true };

// roots: the folder of peer/v2.proto, then that of google/rpc and grpc/health.
function load(roots) {
  const definition = (file) => grpc.loadPackageDefinition(
    loader.loadSync(file, { ...options, includeDirs: [...roots, '/usr/include'] }));
  const status = new protobuf.Root();
  status.resolvePath = (_, target) => (
    target.startsWith('google/rpc') ? `${roots[1]}/${target}` : `/usr/include/${target}`);
  status.loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto']);
  types.Status = status.lookupType('google.rpc.Status');
  types.ErrorInfo = status.lookupType('google.rpc.ErrorInfo');
  types.BadRequest = status.lookupType('google.rpc.BadRequest');
  return {
    Peer: definition('peer/v2.proto').postern.test_peer.v2.Peer,
    Health: definition('grpc/health/v1/health.proto').grpc.health.v1.Health,
  };
}

const types = {};
const url = (name) => `type.googleapis.com/google.rpc.${name}`;

// A serialized google.rpc.Status for a question's reason and field; null without either.
function packStatus(ask) {
  const details = [];
  const add = (name, fields) => details.push({
    type_url: url(name), value: types[name].encode(types[name].create(fields)).finish() });
  if (ask.reason) add('ErrorInfo', { reason: ask.reason, domain: 'postern' });
  if (ask.field) {
    add('BadRequest', { fieldViolations: [{ field: ask.field, description: ask.text }] });
  }
  if (details.length === 0) return null;
  const status = { code: ask.status, message: ask.text, details };
  return Buffer.from(types.Status.encode(types.Status.fromObject(status)).finish());
}

// {status, ErrorInfo, BadRequest} of grpc-status-details-bin.
function unpackStatus(bytes) {
  const status = types.Status.decode(bytes);
  const found = { status };
  for (const any of status.details) {
    const name = any.type_url.split('.').pop();
    if (any.type_url === url(name)) found[name] = types[name].decode(any.value);
  }
  return found;
}

module.exports = { load, packStatus, unpackStatus };
