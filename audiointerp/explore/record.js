// Passes the microphone's samples on, unchanged.
registerProcessor("record", class extends AudioWorkletProcessor {
  process(inputs) {
    if (inputs[0]?.[0]) this.port.postMessage(inputs[0][0].slice());
    return true;
  }
});
