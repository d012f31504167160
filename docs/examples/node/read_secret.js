// Reads a secret of this pod: node read_secret.js TARGET NAME
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [target, name] = process.argv.slice(2);
const files = loader.loadSync('postern/v1/secret.proto', {includeDirs: ['proto']});
const {SecretService} = grpc.loadPackageDefinition(files).postern.v1;
const secrets = new SecretService(target, grpc.credentials.createInsecure());
secrets.get({name}, (error, answer) => {
  if (error) throw error;
  console.log(answer.value.toString());
});
