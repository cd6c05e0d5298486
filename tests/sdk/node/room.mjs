// A room in which handlers wait for the test (functions/rooms.py): a port of this machine, and what
// handlers said there. The test decides when they may go on.
import { once } from "node:events";
import { createServer } from "node:net";

export class Room {
  entered = [];
  waiting = [];
  isOpen = false;

  /** Opens when `open` is called, or as soon as `size` handlers are in. */
  static async make(host, size) {
    const room = new Room();
    room.door = createServer((socket) => {
      socket.on("error", () => {}); // a handler that was killed
      socket.once("data", (name) => {
        room.entered.push(name.toString().trim());
        room.waiting.push(socket);
        if (room.isOpen || room.entered.length === size) room.open();
      });
    });
    room.door.listen(0, host);
    await once(room.door, "listening");
    room.address = `${host}:${room.door.address().port}`;
    return room;
  }

  open() {
    this.isOpen = true;
    this.waiting.splice(0).forEach((socket) => socket.end("."));
  }

  close() {
    this.open();
    this.door.close();
  }
}
