// DynamoDB of the AWS SDK v2, for connection tables.

import { tableOperations } from "./connection-table.js";
import { runWithDocuments, runWithTyped } from "./translate.js";
import { Service, withMethods } from "./v2.js";

export class DynamoDB extends Service {
  operations = tableOperations;

  perform(operation, input) {
    return runWithTyped(operation, input);
  }
}

withMethods(DynamoDB, { putItem: "PutItem", getItem: "GetItem", deleteItem: "DeleteItem", scan: "Scan" });

class DocumentClient extends Service {
  operations = tableOperations;

  perform(operation, input) {
    return runWithDocuments(operation, input, { removeUndefinedValues: true });
  }

  createSet(elements) {
    return new Set(elements);
  }
}

DynamoDB.DocumentClient = withMethods(DocumentClient, { put: "PutItem", get: "GetItem", delete: "DeleteItem", scan: "Scan" });

for (const method of ["query", "update", "batchGet", "batchWrite", "transactGet", "transactWrite", "batchGetItem", "batchWriteItem", "updateItem"]) {
  for (const Class of [DynamoDB, DocumentClient]) {
    Class.prototype[method] = () => {
      throw new Error(`DynamoDB's ${method} is not there: a connection table has put, get, delete and scan`);
    };
  }
}
