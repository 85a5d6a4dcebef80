// A room and an echo, as one writes them with ws: by five actions.
import { randomUUID } from "node:crypto";
import { WebSocketServer } from "ws";

const members = new Set();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.env.PORT) });

server.on("connection", (socket) => {
    const id = randomUUID();
    const answer = (data) => socket.send(data, { binary: false });
    socket.on("error", () => socket.terminate());
    socket.on("close", () => members.delete(socket));
    socket.on("message", (data) => {
        switch (JSON.parse(data).action) {
            case "join":
                members.add(socket);
                return answer(data);
            case "leave":
                members.delete(socket);
                return answer(data);
            case "publish":
                for (const member of members) member.send(data, { binary: false });
                return;
            case "echo":
                return answer(data);
            case "who":
                return answer(id);
        }
    });
});
