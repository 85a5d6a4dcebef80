import { ApiGatewayManagementApi } from "@aws-sdk/client-apigatewaymanagementapi";
import middy from "@middy/core";
import httpErrorHandler from "@middy/http-error-handler";
import inputOutputLogger from "@middy/input-output-logger";
import { nanoid } from "nanoid";
import pMap from "p-map";
import type { APIGatewayProxyWebsocketEventV2 } from "aws-lambda";
import { v4, v5 } from "uuid";
import { z } from "zod";

const Request = z.object({ to: z.array(z.string()).min(1), text: z.string().max(100) });

const api = new ApiGatewayManagementApi({ region: process.env.AWS_REGION });

export const handler = middy<APIGatewayProxyWebsocketEventV2>()
  .use(inputOutputLogger())
  .use(httpErrorHandler({ logger: false, fallbackMessage: "no idea" }))
  .handler(async (event) => {
    const { to, text } = Request.parse(JSON.parse(event.body ?? "null"));
    const results = await pMap(
      to,
      async (ConnectionId): Promise<string> => {
        try {
          await api.postToConnection({ ConnectionId, Data: text });
          return "sent";
        } catch (error) {
          return (error as Error).name;
        }
      },
      { concurrency: 2 },
    );
    const ids = { nano: nanoid(), random: v4(), named: v5("lockgate", v5.URL) };
    return { statusCode: 200, body: JSON.stringify({ results, ids, region: process.env.AWS_REGION }) };
  });
