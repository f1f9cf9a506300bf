/* Not TensorFlow Lite Micro: what speech_tflm.cc uses of it, see test_export_c.py. */
#pragma once

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

namespace tflite {

class MicroOpResolver {};

template <unsigned int capacity>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
#define STUB_OPERATOR(name) \
  TfLiteStatus Add##name() { return used_++ < capacity ? kTfLiteOk : kTfLiteError; }
  STUB_OPERATOR(Add)
  STUB_OPERATOR(BatchMatMul)
  STUB_OPERATOR(Concatenation)
  STUB_OPERATOR(Conv2D)
  STUB_OPERATOR(DepthwiseConv2D)
  STUB_OPERATOR(FullyConnected)
  STUB_OPERATOR(Gather)
  STUB_OPERATOR(Mul)
  STUB_OPERATOR(Pack)
  STUB_OPERATOR(Reshape)
  STUB_OPERATOR(Rsqrt)
  STUB_OPERATOR(Softmax)
  STUB_OPERATOR(Split)
  STUB_OPERATOR(StridedSlice)
  STUB_OPERATOR(Sub)
  STUB_OPERATOR(Transpose)
  STUB_OPERATOR(Unpack)
  unsigned int GetRegistrationLength() { return used_; }

 private:
  unsigned int used_ = 0;
};

}  // namespace tflite
