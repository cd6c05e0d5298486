// Says who it is and calls $FUNCTION with the defaults of the SDK for JavaScript; prints what `pods.py` reads.
import { createRequire } from "node:module";

// The packages lie in $PACKAGES, which has no link to this file.
const require = createRequire(`${process.env.PACKAGES}/`);
const { LambdaClient, InvokeCommand } = require("@aws-sdk/client-lambda");
const { STSClient, GetCallerIdentityCommand } = require("@aws-sdk/client-sts");

async function attempt(call) {
  try {
    return await call();
  } catch (error) {
    return { error: error.name, whole: `${error} ${error.cause ?? ""}` };
  }
}

const identity = await attempt(async () => (await new STSClient().send(new GetCallerIdentityCommand())).Arn);
const answer = await attempt(async () => {
  const input = { FunctionName: process.env.FUNCTION, Payload: '{"name": "é"}' };
  const invoked = await new LambdaClient().send(new InvokeCommand(input));
  return JSON.parse(Buffer.from(invoked.Payload).toString());
});
const { version } = require("@aws-sdk/client-lambda/package.json");
console.log(JSON.stringify({ version, identity, answer }));
