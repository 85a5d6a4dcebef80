// A room and an echo, as one writes them with Bun: by five actions.
const server = Bun.serve({
    hostname: "127.0.0.1",
    port: Number(process.env.PORT),
    fetch(request, server) {
        if (server.upgrade(request, { data: { id: crypto.randomUUID() } })) return;
        return new Response("a WebSocket, please", { status: 426 });
    },
    websocket: {
        // The clients of the bench answer no pings while they wait.
        idleTimeout: 0,
        sendPings: false,
        message(socket, message) {
            switch (JSON.parse(message).action) {
                case "join":
                    socket.subscribe("everyone");
                    return socket.send(message);
                case "leave":
                    socket.unsubscribe("everyone");
                    return socket.send(message);
                case "publish":
                    return server.publish("everyone", message);
                case "echo":
                    return socket.send(message);
                case "who":
                    return socket.send(socket.data.id);
            }
        },
    },
});
