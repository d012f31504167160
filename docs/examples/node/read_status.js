// Prints how things stand in this pod: node read_status.js TARGET
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const files = loader.loadSync('postern/v1/status.proto', {includeDirs: ['proto'], enums: String});
const {StatusService} = grpc.loadPackageDefinition(files).postern.v1;
const status = new StatusService(process.argv[2], grpc.credentials.createInsecure());
status.get({}, (error, answer) => {
  if (error) throw error;
  console.log(JSON.stringify(answer));
});
