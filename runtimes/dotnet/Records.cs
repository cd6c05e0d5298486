// Writes records, which may have several lines, as frames: kind, length, time in microseconds, text
// (runtime-image/supervisor/src/records.rs). Each call of WriteLine is one record, as on the original platform;
// other output is printed.

using System;
using System.Globalization;
using System.IO;
using System.Runtime.InteropServices;
using System.Text;

namespace Pilotlight
{
    sealed class Records : TextWriter
    {
        const string Variable = "_LAMBDA_TELEMETRY_LOG_FD";
        const uint Kind = 0xa55a0003;
        const int Head = 16;
        const int Interrupted = 4;
        static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);

        readonly int descriptor;
        readonly TextWriter plain;
        // Whether Write has begun a line.
        bool isInLine;

        /// Replaces Console.Out if the supervisor has passed a descriptor.
        public static void Take()
        {
            var number = Environment.GetEnvironmentVariable(Variable);
            if (string.IsNullOrEmpty(number))
                return;
            Environment.SetEnvironmentVariable(Variable, null);
            var descriptor = int.Parse(number, CultureInfo.InvariantCulture);
            // A wrapper that starts this process as its child may have closed the descriptor. Then the client prints
            // lines instead of records.
            if ((int)write(descriptor, new byte[0], IntPtr.Zero) == 0)
                Console.SetOut(new Records(descriptor, Console.Out));
        }

        Records(int descriptor, TextWriter plain)
        {
            this.descriptor = descriptor;
            this.plain = plain;
        }

        public override Encoding Encoding
        {
            get { return plain.Encoding; }
        }

        public override void Write(char character)
        {
            isInLine = character != '\n';
            plain.Write(character);
        }

        public override void Write(string text)
        {
            if (string.IsNullOrEmpty(text))
                return;
            isInLine = text[text.Length - 1] != '\n';
            plain.Write(text);
        }

        public override void Write(char[] text, int index, int count)
        {
            Write(new string(text, index, count));
        }

        public override void WriteLine()
        {
            WriteLine("");
        }

        public override void WriteLine(string text)
        {
            if (isInLine)
                Write(text + "\n");
            else
                Log(text ?? "");
        }

        public override void Flush()
        {
            plain.Flush();
        }

        // One write for each frame, because other threads may write to the pipe. Console.Out is synchronized.
        void Log(string text)
        {
            var frame = new byte[Head + Encoding.GetByteCount(text)];
            var time = (DateTime.UtcNow - Epoch).Ticks / 10;
            Put(frame, 0, Kind, 4);
            Put(frame, 4, (ulong)(frame.Length - Head), 4);
            Put(frame, 8, (ulong)time, 8);
            Encoding.GetBytes(text, 0, text.Length, frame, Head);
            while (frame.Length > 0)
            {
                var written = (int)write(descriptor, frame, (IntPtr)frame.Length);
                // A write that a signal interrupted is repeated. Any other error means that nobody reads the pipe.
                if (written < 0 && Marshal.GetLastWin32Error() != Interrupted)
                    return;
                var rest = new byte[frame.Length - Math.Max(written, 0)];
                Buffer.BlockCopy(frame, frame.Length - rest.Length, rest, 0, rest.Length);
                frame = rest;
            }
        }

        static void Put(byte[] frame, int at, ulong number, int size)
        {
            for (var place = size - 1; place >= 0; place--, number >>= 8)
                frame[at + place] = (byte)number;
        }

        // Mono's streams accept only descriptors that Mono has opened.
        [DllImport("libc", SetLastError = true)]
        static extern IntPtr write(int descriptor, byte[] bytes, IntPtr count);
    }
}
