# What the conformance table asks of a function, in Ruby.

STARTED = Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)
$calls = 0

def lambda_handler(event:, context:)
  $calls += 1
  case event.is_a?(Hash) && event['do']
  when 'context'
    { requestId: context.aws_request_id, functionName: context.function_name,
      functionVersion: context.function_version, arn: context.invoked_function_arn,
      memory: context.memory_limit_in_mb, logGroup: context.log_group_name,
      logStream: context.log_stream_name, remaining: context.get_remaining_time_in_millis,
      custom: context.client_context && context.client_context['custom'] }
  when 'surroundings'
    file = File.join(ENV.fetch('TMPDIR', '/tmp'), 'note')
    File.write(file, 'kept')
    { variables: ENV.to_h, directory: Dir.pwd, kept: File.read(file) }
  when 'count' then { calls: $calls, started: STARTED }
  when 'wait'
    sleep event['seconds']
    { started: STARTED }
  when 'print'
    puts event['text']
    nil
  when 'raise' then raise ArgumentError, 'no such order: grün'
  when 'unserialisable' then Float::NAN
  when 'size' then 'x' * event['bytes']
  when 'exit' then exit!(event['status'])
  when 'memory'
    held = Array.new(event['mebibytes']) { Random.bytes(1 << 20) }
    sleep 900
    held.size
  else event
  end
end

module Shop
  class Orders
    def self.other(event:, context:)
      'other'
    end
  end
end
