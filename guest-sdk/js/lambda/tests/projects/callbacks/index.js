// The older ways to answer: the callback and the context, with SDK v2 by callbacks.
var AWS = require('aws-sdk/clients/apigatewaymanagementapi');

exports.handler = function (event, context, callback) {
  if (event.requestContext.eventType !== 'MESSAGE') {
    context.callbackWaitsForEmptyEventLoop = false;
    return callback(null, { statusCode: 200 });
  }
  var request = JSON.parse(event.body);
  var api = new AWS({ endpoint: event.requestContext.domainName + '/' + event.requestContext.stage });
  switch (request.action) {
    case 'callback':
      setTimeout(function () {
        callback(null, { statusCode: 200, body: 'by callback' });
      }, 5);
      break;
    case 'succeed':
      context.succeed({ statusCode: 200, body: 'by succeed' });
      break;
    case 'error':
      callback('an error as a text');
      break;
    case 'post':
      api.postToConnection({ ConnectionId: event.requestContext.connectionId, Data: 'posted' }, function (error) {
        callback(error, { statusCode: 200, body: 'after the post' });
      });
      break;
    case 'gone':
      api.postToConnection({ ConnectionId: 'gone', Data: 'x' }, function (error) {
        callback(null, { statusCode: 200, body: error.code + ' ' + error.statusCode });
      });
      break;
    case 'nothing':
      break;
  }
};
