// Calls a function by name and by ARN with the defaults of the SDK for JavaScript.
import { createRequire } from "node:module";

const require = createRequire(new URL("../node/package.json", import.meta.url));
const { LambdaClient, InvokeCommand } = require("@aws-sdk/client-lambda");

const client = new LambdaClient();
for (const FunctionName of ["hello", "arn:aws:lambda:eu-central-1:000000000000:function:hello"]) {
  const answer = await client.send(
    new InvokeCommand({ FunctionName, Qualifier: "$LATEST", LogType: "Tail", Payload: '{"name": "é"}' }),
  );
  console.log(Buffer.from(answer.Payload).toString());
}
