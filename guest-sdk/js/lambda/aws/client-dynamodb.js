// Stands in for @aws-sdk/client-dynamodb, for connection tables.

import { tableOperations } from "./connection-table.js";
import { runWithTyped } from "./translate.js";
import { Client, Command, ServiceException, absent, aggregated, exception, paginator } from "./v3.js";

export class DynamoDBServiceException extends ServiceException {}

export const ConditionalCheckFailedException = exception("ConditionalCheckFailedException", DynamoDBServiceException);
export const ProvisionedThroughputExceededException = exception("ProvisionedThroughputExceededException", DynamoDBServiceException);
export const ResourceNotFoundException = exception("ResourceNotFoundException", DynamoDBServiceException);

export class PutItemCommand extends Command {
  static operation = tableOperations.PutItem;
}

export class GetItemCommand extends Command {
  static operation = tableOperations.GetItem;
}

export class DeleteItemCommand extends Command {
  static operation = tableOperations.DeleteItem;
}

export class ScanCommand extends Command {
  static operation = tableOperations.Scan;
}

export class DynamoDBClient extends Client {
  static commands = [PutItemCommand, GetItemCommand, DeleteItemCommand, ScanCommand];
  static exceptions = { ConditionalCheckFailedException, ProvisionedThroughputExceededException };
  static Exception = DynamoDBServiceException;

  perform(operation, input) {
    return runWithTyped(operation, input);
  }
}

export class DynamoDB extends aggregated(DynamoDBClient) {}

export const paginateScan = paginator(ScanCommand);

export const QueryCommand = absent("QueryCommand");
export const UpdateItemCommand = absent("UpdateItemCommand");
export const BatchGetItemCommand = absent("BatchGetItemCommand");
export const BatchWriteItemCommand = absent("BatchWriteItemCommand");
export const TransactGetItemsCommand = absent("TransactGetItemsCommand");
export const TransactWriteItemsCommand = absent("TransactWriteItemsCommand");
export const CreateTableCommand = absent("CreateTableCommand");
export const DescribeTableCommand = absent("DescribeTableCommand");
export const ExecuteStatementCommand = absent("ExecuteStatementCommand");
