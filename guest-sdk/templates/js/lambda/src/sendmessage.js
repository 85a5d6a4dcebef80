// {"action": "sendmessage", "data": "hello"}: sends the text to everyone else.

const { ApiGatewayManagementApiClient, PostToConnectionCommand } = require("@aws-sdk/client-apigatewaymanagementapi");
const { DynamoDBClient } = require("@aws-sdk/client-dynamodb");
const { DynamoDBDocumentClient, GetCommand, ScanCommand } = require("@aws-sdk/lib-dynamodb");

const TableName = process.env.TABLE_NAME;
const table = DynamoDBDocumentClient.from(new DynamoDBClient({}));

exports.handler = async (event) => {
  const { connectionId, domainName, stage } = event.requestContext;
  const api = new ApiGatewayManagementApiClient({ endpoint: `https://${domainName}/${stage}` });
  const { Item: sender } = await table.send(new GetCommand({ TableName, Key: { connectionId } }));
  const { Items: everyone } = await table.send(new ScanCommand({ TableName }));
  const said = JSON.stringify({ from: sender.name, data: JSON.parse(event.body).data });

  const others = everyone.filter((row) => row.connectionId !== connectionId);
  await Promise.all(
    others.map(async (row) => {
      try {
        await api.send(new PostToConnectionCommand({ ConnectionId: row.connectionId, Data: said }));
      } catch (error) {
        // It has gone, and its row with it.
        if (error.name !== "GoneException") throw error;
      }
    }),
  );
  return { statusCode: 200 };
};
