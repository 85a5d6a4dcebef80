// A client connects: a status of 2xx lets it in, any other refuses it. Headers and query are in the event here only.

const { DynamoDBClient } = require("@aws-sdk/client-dynamodb");
const { DynamoDBDocumentClient, PutCommand } = require("@aws-sdk/lib-dynamodb");

// A table of connections is kept by the gateway ("connectionTable" in package.json): a row goes with its connection.
const table = DynamoDBDocumentClient.from(new DynamoDBClient({}));

exports.handler = async (event) => {
  const { connectionId } = event.requestContext;
  const name = event.queryStringParameters?.name ?? "guest";
  await table.send(new PutCommand({ TableName: process.env.TABLE_NAME, Item: { connectionId, name } }));
  return { statusCode: 200 };
};
