# A port that takes what a Sentry client sends and appends the events to a file, one JSON object a line: for
# docs/tour.md. sentry-receiver.pl <port> <file>
use strict;
use warnings;
use IO::Socket::INET;
use IO::Uncompress::Gunzip qw(gunzip);

my ($port, $file) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 16, ReuseAddr => 1)
    or die "port $port: $!\n";
$SIG{CHLD} = 'IGNORE';
while (my $client = $listener->accept) {
    # A kept connection must not hold up the next one.
    next if fork;
    close $listener;
    answer($client);
    exit;
}

sub answer {
    my ($client) = @_;
    while (defined(my $request = <$client>)) {
        my %header;
        while (defined(my $line = <$client>)) {
            last if $line =~ /^\r?\n$/;
            $header{lc $1} = $2 if $line =~ /^([^:]+):\s*(.*?)\r?\n$/;
        }
        my $body = '';
        my $length = $header{'content-length'} // 0;
        while (length $body < $length) {
            read($client, $body, $length - length $body, length $body) or return;
        }
        if (($header{'content-encoding'} // '') eq 'gzip') {
            my $packed = $body;
            gunzip(\$packed => \$body) or return;
        }
        # An envelope: a line about it, then for each item a line about the item and the item.
        open my $events, '>>', $file or die "$file: $!\n";
        print $events "$_\n" for grep { /^\{.*"event_id"/ && /"(?:exception|logentry|message)"/ } split /\n/, $body;
        close $events;
        print $client "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    }
}
