// Stands in for @aws-sdk/lib-dynamodb, for connection tables.

import { DynamoDBClient } from "./client-dynamodb.js";
import { tableOperations } from "./connection-table.js";
import { runWithDocuments } from "./translate.js";
import { Command, absent, aggregated, paginator } from "./v3.js";

export class PutCommand extends Command {
  static operation = tableOperations.PutItem;
}

export class GetCommand extends Command {
  static operation = tableOperations.GetItem;
}

export class DeleteCommand extends Command {
  static operation = tableOperations.DeleteItem;
}

export class ScanCommand extends Command {
  static operation = tableOperations.Scan;
}

export class DynamoDBDocumentClient extends DynamoDBClient {
  static commands = [PutCommand, GetCommand, DeleteCommand, ScanCommand];

  constructor(client, { marshallOptions } = {}) {
    super(client.config);
    this.marshallOptions = marshallOptions;
  }

  static from(client, translateConfig) {
    return new this(client, translateConfig);
  }

  perform(operation, input) {
    return runWithDocuments(operation, input, this.marshallOptions);
  }
}

export class DynamoDBDocument extends aggregated(DynamoDBDocumentClient) {}

export const paginateScan = paginator(ScanCommand);

export const QueryCommand = absent("QueryCommand");
export const UpdateCommand = absent("UpdateCommand");
export const BatchGetCommand = absent("BatchGetCommand");
export const BatchWriteCommand = absent("BatchWriteCommand");
export const TransactGetCommand = absent("TransactGetCommand");
export const TransactWriteCommand = absent("TransactWriteCommand");
export const ExecuteStatementCommand = absent("ExecuteStatementCommand");
