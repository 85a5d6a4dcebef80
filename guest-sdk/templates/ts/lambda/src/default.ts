// Any other message.

import type { APIGatewayProxyResult, APIGatewayProxyWebsocketEventV2 } from "aws-lambda";

export async function handler(event: APIGatewayProxyWebsocketEventV2): Promise<APIGatewayProxyResult> {
  const error = `there is no action for ${event.body}; send {"action": "sendmessage", "data": "hello"}`;
  return { statusCode: 200, body: JSON.stringify({ error }) };
}
