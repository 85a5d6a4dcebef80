import middy from "@middy/core";
import httpErrorHandler from "@middy/http-error-handler";
import httpHeaderNormalizer from "@middy/http-header-normalizer";
import createError from "http-errors";
import type { APIGatewayProxyResultV2, APIGatewayProxyWebsocketEventV2WithRequestContext, APIGatewayEventWebsocketRequestContextV2 } from "aws-lambda";

type ConnectEvent = APIGatewayProxyWebsocketEventV2WithRequestContext<APIGatewayEventWebsocketRequestContextV2> & { headers: Record<string, string> };

export const handler = middy<ConnectEvent, APIGatewayProxyResultV2>()
  .use(httpHeaderNormalizer())
  .use(httpErrorHandler({ logger: false }))
  .handler(async (event) => {
    if (event.headers["authorization"] === "wrong") throw createError(403, "not with this token");
    return { statusCode: 200 };
  });
