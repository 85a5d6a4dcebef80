// {"action": "sendmessage", "data": "hello"}: sends the text to everyone else.

import { ApiGatewayManagementApiClient, GoneException, PostToConnectionCommand } from "@aws-sdk/client-apigatewaymanagementapi";
import { GetCommand, ScanCommand } from "@aws-sdk/lib-dynamodb";
import type { APIGatewayProxyResult, APIGatewayProxyWebsocketEventV2 } from "aws-lambda";

import { table, TableName } from "./table";

export async function handler(event: APIGatewayProxyWebsocketEventV2): Promise<APIGatewayProxyResult> {
  const { connectionId, domainName, stage } = event.requestContext;
  const api = new ApiGatewayManagementApiClient({ endpoint: `https://${domainName}/${stage}` });
  const { Item: sender } = await table.send(new GetCommand({ TableName, Key: { connectionId } }));
  const { Items: everyone = [] } = await table.send(new ScanCommand({ TableName }));
  const said = JSON.stringify({ from: sender?.name, data: JSON.parse(event.body ?? "{}").data });

  const others = everyone.filter((row) => row.connectionId !== connectionId);
  await Promise.all(
    others.map(async (row) => {
      try {
        await api.send(new PostToConnectionCommand({ ConnectionId: row.connectionId, Data: said }));
      } catch (error) {
        // It has gone, and its row with it.
        if (!(error instanceof GoneException)) throw error;
      }
    }),
  );
  return { statusCode: 200, body: "" };
}
