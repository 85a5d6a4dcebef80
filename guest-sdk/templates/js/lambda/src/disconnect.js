// A client has gone.

const { DynamoDBClient } = require("@aws-sdk/client-dynamodb");
const { DynamoDBDocumentClient, DeleteCommand } = require("@aws-sdk/lib-dynamodb");

const table = DynamoDBDocumentClient.from(new DynamoDBClient({}));

exports.handler = async (event) => {
  const { connectionId } = event.requestContext;
  await table.send(new DeleteCommand({ TableName: process.env.TABLE_NAME, Key: { connectionId } }));
  return { statusCode: 200 };
};
