// A client has gone.

import { DeleteCommand } from "@aws-sdk/lib-dynamodb";
import type { APIGatewayProxyResult, APIGatewayProxyWebsocketEventV2 } from "aws-lambda";

import { table, TableName } from "./table";

export async function handler(event: APIGatewayProxyWebsocketEventV2): Promise<APIGatewayProxyResult> {
  const { connectionId } = event.requestContext;
  await table.send(new DeleteCommand({ TableName, Key: { connectionId } }));
  return { statusCode: 200, body: "" };
}
