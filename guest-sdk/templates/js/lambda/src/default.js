// Any other message.

exports.handler = async (event) => ({
  statusCode: 200,
  body: JSON.stringify({ error: `there is no action for ${event.body}; send {"action": "sendmessage", "data": "hello"}` }),
});
