// A room and an echo, as one writes them with uWebSockets.js: by five actions.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";

// The package itself would fall back to JavaScript where it has no build for this Node.
const build = `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`;
const { App } = createRequire(import.meta.url)(`@trufflesuite/uws-js-unofficial/dist/${build}`);

const app = App();
app.ws("/*", {
    // The clients of the bench answer no pings while they wait.
    idleTimeout: 0,
    sendPingsAutomatically: false,
    maxPayloadLength: 128 << 10,
    maxBackpressure: 1 << 20,
    upgrade(response, request, context) {
        response.upgrade(
            { id: randomUUID() },
            request.getHeader("sec-websocket-key"),
            request.getHeader("sec-websocket-protocol"),
            request.getHeader("sec-websocket-extensions"),
            context,
        );
    },
    message(socket, message) {
        switch (JSON.parse(Buffer.from(message)).action) {
            case "join":
                socket.subscribe("everyone");
                return socket.send(message);
            case "leave":
                socket.unsubscribe("everyone");
                return socket.send(message);
            case "publish":
                return app.publish("everyone", message);
            case "echo":
                return socket.send(message);
            case "who":
                return socket.send(socket.getUserData().id);
        }
    },
});
app.listen("127.0.0.1", Number(process.env.PORT), (socket) => {
    if (!socket) throw new Error(`port ${process.env.PORT} is taken`);
});
