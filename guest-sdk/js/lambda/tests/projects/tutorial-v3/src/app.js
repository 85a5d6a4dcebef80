// One function behind every route, as many CommonJS projects on SDK v3 have it.
const { DynamoDBClient } = require('@aws-sdk/client-dynamodb');
const { DynamoDBDocumentClient, PutCommand, DeleteCommand, ScanCommand } = require('@aws-sdk/lib-dynamodb');
const {
  ApiGatewayManagementApiClient,
  PostToConnectionCommand,
  GetConnectionCommand,
  DeleteConnectionCommand,
  GoneException,
} = require('@aws-sdk/client-apigatewaymanagementapi');

const TableName = process.env.TABLE_NAME;
const table = DynamoDBDocumentClient.from(new DynamoDBClient({ region: process.env.AWS_REGION }));

const clientOf = ({ domainName, stage }) => new ApiGatewayManagementApiClient({ endpoint: `https://${domainName}/${stage}` });

const post = (client, ConnectionId, value) => client.send(new PostToConnectionCommand({ ConnectionId, Data: JSON.stringify(value) }));

async function broadcast(context, message) {
  const client = clientOf(context);
  const { Items } = await table.send(new ScanCommand({ TableName }));
  await Promise.all(
    Items.filter(({ connectionId }) => connectionId !== context.connectionId).map(async ({ connectionId, name }) => {
      try {
        await post(client, connectionId, { to: name, message });
      } catch (e) {
        if (e.name !== 'GoneException') throw e;
        await table.send(new DeleteCommand({ TableName, Key: { connectionId } }));
      }
    }),
  );
}

exports.handler = async (event) => {
  const { requestContext: context } = event;
  const { connectionId, routeKey } = context;
  switch (routeKey) {
    case '$connect': {
      const token = event.headers.Authorization;
      if (token === 'wrong') return { statusCode: 401, body: 'Unauthorized' };
      const name = event.queryStringParameters?.name ?? 'nobody';
      await table.send(new PutCommand({ TableName, Item: { connectionId, name, at: Date.now() } }));
      const offered = event.headers['Sec-WebSocket-Protocol'];
      return { statusCode: 200, headers: offered ? { 'Sec-WebSocket-Protocol': offered.split(',')[0].trim() } : {} };
    }
    case '$disconnect':
      await table.send(new DeleteCommand({ TableName, Key: { connectionId } }));
      await broadcast(context, { left: context.disconnectStatusCode });
      return { statusCode: 200 };
    case 'broadcast':
      await broadcast(context, JSON.parse(event.body).message);
      return { statusCode: 200 };
    case 'whoami': {
      const { Identity } = await clientOf(context).send(new GetConnectionCommand({ ConnectionId: connectionId }));
      return { statusCode: 200, body: JSON.stringify({ Identity, messageId: Boolean(context.messageId), stage: context.stage }) };
    }
    case 'kick':
      try {
        await clientOf(context).send(new DeleteConnectionCommand({ ConnectionId: JSON.parse(event.body).id }));
      } catch (e) {
        if (!(e instanceof GoneException)) throw e;
        return { statusCode: 410, body: `${e.name} ${e.$metadata.httpStatusCode}` };
      }
      return { statusCode: 200, body: 'kicked' };
    case 'fail':
      throw new Error('as told');
    case 'malformed':
      return { ConnectionId: connectionId, Data: 'x' };
    default:
      return { statusCode: 200, body: event.body, isBase64Encoded: event.isBase64Encoded };
  }
};
