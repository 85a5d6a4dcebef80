// The classes of node:stream/web, so that middleware can ask what a body is. A proxy response has no streams.

const absent = (name) =>
  class {
    constructor() {
      throw new Error(`${name} is not there in a plugin: a WebSocket API's answer is a text`);
    }
  };

export const ReadableStream = absent("ReadableStream");
export const WritableStream = absent("WritableStream");
export const TransformStream = absent("TransformStream");
