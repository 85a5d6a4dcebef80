// An echo, as one writes it for Cloudflare's workerd: by five actions. A worker cannot write to the sockets of other
// requests, so that its room is the client alone: a Durable Object would be needed for more.
export default {
    fetch(request) {
        if (request.headers.get("Upgrade") !== "websocket") {
            return new Response("a WebSocket, please", { status: 426 });
        }
        const [client, socket] = Object.values(new WebSocketPair());
        const id = crypto.randomUUID();
        let joined = false;
        socket.accept();
        socket.addEventListener("message", ({ data }) => {
            switch (JSON.parse(data).action) {
                case "join":
                    joined = true;
                    return socket.send(data);
                case "leave":
                    joined = false;
                    return socket.send(data);
                case "publish":
                    if (joined) socket.send(data);
                    return;
                case "echo":
                    return socket.send(data);
                case "who":
                    return socket.send(id);
            }
        });
        return new Response(null, { status: 101, webSocket: client });
    },
};
