// Stands in for @aws-sdk/client-apigatewaymanagementapi.

import { operations } from "./operations.js";
import { Client, Command, ServiceException, aggregated, exception } from "./v3.js";

export class ApiGatewayManagementApiServiceException extends ServiceException {}

export const ForbiddenException = exception("ForbiddenException", ApiGatewayManagementApiServiceException);
export const GoneException = exception("GoneException", ApiGatewayManagementApiServiceException);
export const LimitExceededException = exception("LimitExceededException", ApiGatewayManagementApiServiceException);
export const PayloadTooLargeException = exception("PayloadTooLargeException", ApiGatewayManagementApiServiceException);

export class PostToConnectionCommand extends Command {
  static operation = operations.PostToConnection;
}

export class GetConnectionCommand extends Command {
  static operation = operations.GetConnection;
}

export class DeleteConnectionCommand extends Command {
  static operation = operations.DeleteConnection;
}

export class ApiGatewayManagementApiClient extends Client {
  static commands = [PostToConnectionCommand, GetConnectionCommand, DeleteConnectionCommand];
  static exceptions = { ForbiddenException, GoneException, LimitExceededException, PayloadTooLargeException };
  static Exception = ApiGatewayManagementApiServiceException;
}

export class ApiGatewayManagementApi extends aggregated(ApiGatewayManagementApiClient) {}
