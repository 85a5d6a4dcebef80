// A client connects: a status of 2xx lets it in, any other refuses it. Headers and query are in the event here only.

import { PutCommand } from "@aws-sdk/lib-dynamodb";
import type { APIGatewayProxyResult, APIGatewayProxyWebsocketEventV2 } from "aws-lambda";

import { table, TableName } from "./table";

/** What is in the event of `$connect` beside what every event has. */
type ConnectEvent = APIGatewayProxyWebsocketEventV2 & { queryStringParameters?: Record<string, string> };

export async function handler(event: ConnectEvent): Promise<APIGatewayProxyResult> {
  const { connectionId } = event.requestContext;
  const name = event.queryStringParameters?.name ?? "guest";
  await table.send(new PutCommand({ TableName, Item: { connectionId, name } }));
  return { statusCode: 200, body: "" };
}
