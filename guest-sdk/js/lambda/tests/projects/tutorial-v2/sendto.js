// Posts to one connection, whose id the client gives. One that has gone is told of.
const AWS = require('aws-sdk');

exports.handler = async (event) => {
  const api = new AWS.ApiGatewayManagementApi({
    endpoint: `https://${event.requestContext.domainName}/${event.requestContext.stage}`,
  });
  const { to, message } = JSON.parse(event.body);
  try {
    await api.postToConnection({ ConnectionId: to, Data: Buffer.from(message) }).promise();
  } catch (e) {
    if (e.statusCode !== 410) throw e;
    await api
      .postToConnection({ ConnectionId: event.requestContext.connectionId, Data: JSON.stringify({ gone: to, code: e.code }) })
      .promise();
  }
  return { statusCode: 200 };
};
