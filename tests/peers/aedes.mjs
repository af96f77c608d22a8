// A broker of MQTT 3.1.1 that keeps sessions in memory: node aedes.mjs PORT
// Obeys lines on stdin: "cut ID" ends the connection of that client without a word.
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker()
const clients = new Map()
broker.on('client', (client) => clients.set(client.id, client))
createServer(broker.handle).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'))
for await (const line of createInterface({ input: process.stdin })) {
  const [order, id] = line.split(' ')
  if (order === 'cut') clients.get(id)?.conn.destroy()
}
process.exit(0) // whoever started it is gone
